//! The model of the log: what Redis promises, in memory. `server` and `memory` are its state, [`client`] and
//! `replay` what a process uses.

pub mod client;
mod memory;
mod replay;
pub mod server;
