//! The alerts and the dashboards, with a real Prometheus and a real Alertmanager on running programs.
//!
//! Each alert: its fault, the page that a person on call gets, the cure, and the end of the alert. The rules are those of
//! `observability/prometheus/rules.yaml` with shorter times ([`rules`]); `promtool` tests the real times. The operator needs
//! a cluster: its metrics are those that its own test has recorded ([`operator`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it observed"
)]

mod events;
mod files;
mod http;
mod losses;
mod monitoring;
mod operator;
mod overdue;
mod pages;
mod panels;
mod programs;
mod promtool;
mod rules;
mod servers;
