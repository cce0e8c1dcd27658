//! Traces, with a real OpenTelemetry Collector on running programs.
//!
//! The tests start the programs as a user does, publish with a `traceparent` and without, and read what the Collector has
//! received ([`collector`]). docs/tracing.md describes the spans; [`tree`] compares them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it observed"
)]

mod client;
mod collector;
mod credentials;
mod faults;
mod limit;
mod logs;
mod outages;
mod queries;
mod sampling;
mod sharing;
mod tree;
