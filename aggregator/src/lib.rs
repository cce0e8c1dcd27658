//! The aggregator: reads the log as one consumer of its group, drops duplicates, stores events
//! and statistics in one transaction, and answers queries about them.

pub mod api;
pub mod metrics;
mod ready;
pub mod replica;
pub mod run;
pub mod settings;
pub mod standalone;
