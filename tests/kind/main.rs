//! The product on a real cluster, as its user meets it: installed by Helm, asked for by a resource,
//! under load from inside the cluster, while pods, processes and nodes go away.
//!
//! `make test-kind` runs it; `SLUICE_KIND_KUBECONFIG` (or `KUBECONFIG`) names the cluster, which must
//! be one that kind made. Each test has a namespace of its own and a resource in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

mod chart;
mod flow;
mod footprint;
mod operator;
mod reconcile;
mod restarts;
mod rolling;
mod scaling;
mod support;
