//! The commands on the fake API server of the operator's tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the tests of the operator use more of it")]
#[path = "../../../operator/tests/support/fake.rs"]
mod fake;
#[allow(dead_code, reason = "the tests of the operator use more of it")]
#[path = "../../../operator/tests/support/patches.rs"]
mod patches;

mod audit;
mod backup;
mod change;
mod command_line;
mod completions;
mod desk;
mod restore;
mod status;
