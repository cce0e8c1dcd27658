//! The aggregator: reads the log as one consumer of its group, drops duplicates, stores events and
//! statistics in one transaction, and answers queries about them.
//!
//! Start reading at [`run::run`], one replica on Redis and PostgreSQL. It runs two things side by side:
//! [`replica::aggregate`], which stores events, and [`api::router`], which answers queries.
//! [`standalone`] runs the same two, and the publisher, on SQLite.

pub mod api;
pub mod audit;
pub mod backup;
mod declared_file;
mod demo;
mod last_audit;
mod latency;
pub mod meters_file;
pub mod metrics;
pub mod outcomes;
mod overdue;
mod postgres_args;
mod ready;
pub mod replica;
pub mod run;
mod schema_notice;
pub mod schemas_file;
pub mod settings;
pub mod standalone;
mod topic_name;
