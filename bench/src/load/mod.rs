//! What is sent, and how: rendered before anything is timed, and sent by a thread of its own, so
//! that the load costs little on the cores that are being measured.

pub mod closed;
pub mod events;
pub mod http;
pub mod open;
