//! The model of the store: what PostgreSQL promises, in memory. `server` is its state, [`tables`] that of the events,
//! `changes` and `failover` what is undone when the last commits are lost, [`transactions`] the locks and the open
//! transactions, [`locks`], `steps` and `maintenance` how partitions are changed. [`connections`], [`client`], `batch`,
//! `partitions` and `marks` are what a process uses, `meters` what each commit is checked with, [`events`] the payloads that the model refuses.

mod batch;
mod changes;
pub mod client;
pub mod connections;
pub mod events;
mod failover;
pub mod locks;
mod maintenance;
mod marks;
mod meters;
mod partitions;
pub mod server;
mod steps;
pub mod tables;
pub mod transactions;
