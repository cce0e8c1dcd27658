//! The publisher: accepts events over HTTP and answers once the log has them on disk.
//!
//! ```text
//! POST /publish ──ingest──▶ packed request ──coalesce──▶ packed entry ──▶ log
//! anything else ──forward──▶ the aggregators
//! ```
//!
//! `standalone` serves this library too, over another log; the program `sluice-publisher` adds
//! forwarding and the simulator.

mod admission;
mod append;
mod append_trace;
mod body_budget;
pub mod cloud_events;
mod coalesce;
mod connector;
mod error_chain;
mod expand;
mod forward;
mod headers;
pub mod https_args;
mod ingest;
pub mod listen_args;
pub mod metrics;
mod openapi;
pub mod outcome;
mod pack;
mod pressure;
mod problems;
mod publisher;
mod query_auth;
mod receive;
pub mod redis_args;
mod resolve;
mod schema_check;
pub mod serve;
pub mod settings;
pub mod simulate;
pub mod token;
mod topic_schemas;
mod waiting;

pub use ingest::{Accepted, router};
pub use openapi::openapi;
pub use publisher::Publisher;
