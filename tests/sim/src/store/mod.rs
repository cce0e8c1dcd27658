//! The model of the store: what PostgreSQL promises, in memory. `server` is its state, `changes` what is undone when
//! the last commits are lost, [`transactions`] the locks and the open transactions, [`connections`], [`client`] and
//! `marks` what a process uses, [`events`] the payloads that it refuses.

mod changes;
pub mod client;
pub mod connections;
pub mod events;
mod marks;
pub mod server;
pub mod transactions;
