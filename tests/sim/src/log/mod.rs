//! The model of the log: what Redis promises, in memory. `server` is its state, [`client`] what a process uses.

pub mod client;
pub mod server;
