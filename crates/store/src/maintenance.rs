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
