//! The settings of the log.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`SqliteLog`].
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    /// The folder of the files; created when missing.
    pub folder: PathBuf,
    /// The time to live of an `Idempotency-Key` after its last use.
    pub idempotency_ttl: Duration,
    /// The maximum size of the file in bytes; `None` is limited by the disk only.
    pub max_bytes: Option<u64>,
}
