//! Tests of the client with the real server, `sluice-aggregator standalone`. `SLUICE_AGGREGATOR` names its executable; without
//! it, it is the one that cargo built beside the tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

mod batching;
mod damage;
mod full;
mod kills;
mod proxy;
mod readme;
mod rejected;
mod repeating;
mod security;
mod server;
mod spool;
mod torn_tail;
mod wait;
mod writer;
