//! Tests of `backup` with the programs of PostgreSQL, in a folder and on an S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod refused;
mod rig;
mod roundtrip;
mod scripts;
