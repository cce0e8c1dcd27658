//! Tests of the publisher program with a real Redis server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; clippy spares only the test functions"
)]

mod bounds;
mod coalesce;
mod compressed;
mod drain;
mod durability;
mod errors;
mod faults;
mod fixture;
mod forward;
mod guard;
mod lines;
mod pressure;
mod refusals;
mod simulate;
