//! The aggregator: reads the log as one consumer of its group, drops duplicates, stores events
//! and statistics in one transaction, and answers queries about them.

pub mod store;
