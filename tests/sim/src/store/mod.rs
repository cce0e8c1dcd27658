//! The model of the store: what PostgreSQL promises, in memory. `server` is its state, [`transactions`] the locks
//! and the open transactions, [`client`] what a process uses, [`events`] the payloads that it refuses.

pub mod client;
pub mod events;
pub mod server;
pub mod transactions;
