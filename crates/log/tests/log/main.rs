//! The log: one suite for every implementation, and what only Redis or only SQLite can show.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod backends;
mod redis_claim;
mod redis_connection;
mod redis_group;
mod redis_memory;
mod redis_streams;
mod redis_trim;
mod sqlite_file;
mod suite;
