//! Faults under load: the guarantees to clients are checked while each process is killed.
//!
//! Each test has its own servers. Its load consists of events with known ids, and each request is repeated
//! with the same `Idempotency-Key` until it receives a response. A watch reads the counts and counts the rows
//! every 100 ms in one snapshot of the database. Work is always in flight at a fault: a lock or a proxy prevents
//! that it is finished before the fault. At the end the rows are the distinct ids that were sent, every count is
//! exact, and a reader that has followed the feed all the time has had every row in its order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it observed"
)]

mod aggregator;
mod connection;
mod damage;
mod failover;
mod group;
mod partitions;
mod patroni;
mod pooler;
mod postgres;
mod publisher;
mod redis;
mod redis_cluster;
mod redis_failover;
mod rotation;
mod soak;
mod standalone;
mod trial;
mod upgrade;
mod waiting;
