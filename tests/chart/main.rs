//! The chart as Helm renders it, with various values. These tests need no cluster.
//!
//! Tests that need a cluster (admission, upgrades, `helm test`) are in `tests/kind`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and prints what it observed"
)]

mod contradictions;
mod definition;
mod docs;
mod effects;
mod extra;
mod helm;
mod identity;
mod images;
mod manifests;
mod metadata;
mod monitoring;
mod network;
mod operator;
mod pod_security;
mod rights;
mod values;
