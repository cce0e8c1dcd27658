//! What maintenance is told, and what it has done.

use std::time::Duration;

/// The time limits that maintenance applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// Receipts older than this are deleted, by the store's clock: the time to live of an `Idempotency-Key`
    /// plus the age of the oldest entry in any stream.
    pub receipts_ttl: Duration,
    /// Events that were stored longer ago than this, by the store's clock, are deleted; `None` retains them for ever.
    pub retention: Option<Duration>,
    /// The time after which one call begins no further step.
    pub max_duration: Duration,
}

/// What one call of [`Store::maintain`] has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Number of events.
    pub events: u64,
    /// Number of receipts. Those that are dropped by whole partitions are not counted.
    pub receipts: u64,
    /// Number of rows of the audit trail.
    pub audit: u64,
    /// Whether the call ended because its time was over, and rows are left that are older than the time limits.
    pub more: bool,
}

/// The partitions of events, as one process uses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionFigures {
    /// Number of partitions, with the open one.
    pub partitions: u64,
    /// Number of closed partitions whose filter is not in memory: every key is looked up in them.
    pub without_filter: u64,
    /// Bytes that the filters in memory take.
    pub filter_bytes: u64,
    /// Number of keys that this process has looked up in closed partitions.
    pub keys_looked_up: u64,
    /// How many of them were there: all others were looked up in vain.
    pub keys_found: u64,
}
