//! The publisher as a program, on a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; clippy spares only the test functions"
)]

mod coalesce;
mod drain;
mod faults;
mod fixture;
mod forward;
mod guard;
mod pressure;
mod refusals;
mod simulate;
