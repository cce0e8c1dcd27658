//! Tests of the log: one suite for all implementations, and tests that apply only to Redis or only to SQLite.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod backends;
mod redis_claim;
mod redis_cluster;
mod redis_connection;
mod redis_durability;
mod redis_group;
mod redis_losses;
mod redis_memory;
mod redis_replay;
mod redis_replicas;
mod redis_sentinel;
mod redis_streams;
mod redis_tls;
mod redis_trim;
mod sqlite_file;
mod suite;
