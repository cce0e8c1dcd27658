//! Faults under load: what every client was promised, while everything is killed.
//!
//! Each test has servers of its own, a load of known events whose requests are repeated under one
//! `Idempotency-Key` until they are answered, and a watch that reads the numbers and counts the
//! rows every 100 ms in one snapshot of the database. Work is in flight at every fault, and not by
//! chance: a lock or a proxy sees to it that it cannot be finished before the fault is done.
//! Afterwards the rows are the distinct ids that were sent, and every number is exact.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

mod aggregator;
mod connection;
mod group;
mod postgres;
mod publisher;
mod redis;
mod standalone;
mod trial;
