//! The load. Requests are rendered before anything is timed, and sent by one thread, so that the load
//! generator uses little of the cores that it shares with what is measured.

pub mod closed;
pub mod endless;
pub mod events;
pub mod http;
pub mod open;
