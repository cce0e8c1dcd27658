//! The chart as Helm renders it, under the values that users set: no cluster needed.
//!
//! What only a cluster can tell (admission, upgrades, `helm test`) is in `tests/kind`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking and says on its output what it saw"
)]

mod definition;
mod docs;
mod helm;
mod identity;
mod images;
mod operator;
mod pod_security;
mod rights;
mod values;
