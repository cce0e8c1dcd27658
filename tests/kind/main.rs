//! The product on a real cluster, as a user runs it: installed by Helm, configured by a resource, and
//! under load from inside the cluster, while pods are deleted, processes killed and nodes drained.
//!
//! `make test-kind` runs it. `SLUICE_KIND_KUBECONFIG` (or `KUBECONFIG`) names the cluster, which must
//! have been created by kind. Each test has its own namespace with one resource.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it observed"
)]

mod backup;
mod chart;
mod cloud_native_pg;
mod enforced;
mod exposure;
mod flow;
mod footprint;
mod many;
mod monitors;
mod node_lost;
mod operator;
mod plugin;
mod reconcile;
mod restarts;
mod roles;
mod rolling;
mod scaling;
mod support;
mod traces;
mod upgrade;
