//! The metrics that the log records, in the publisher and in the aggregators.

use sluice_service::metrics::Metric;

use crate::Position;

/// Memory of the records of `Idempotency-Key`s in Redis, as the publisher last measured it.
pub const KEY_RECORDS_BYTES: Metric = Metric::gauge("sluice_log_key_records_bytes", &[], "bytes");
/// Records of `Idempotency-Key`s removed before their time to live ended, because they had reached their share of
/// Redis' memory.
pub const KEY_RECORDS_DROPPED: Metric = Metric::counter("sluice_log_key_records_dropped_total", &[], "records");
/// Entries that were pending and are no longer in the stream, so lost.
pub const ENTRIES_LOST: Metric = Metric::counter("sluice_entries_lost_total", &[], "entries");

/// Times that the log was found without what it had confirmed: an entry of a publisher, or an acknowledgement of an
/// aggregator.
pub const LOSSES: Metric = Metric::counter("sluice_log_losses_total", &[], "losses");

/// Every metric that the log records.
pub const ALL: &[Metric] = &[KEY_RECORDS_BYTES, KEY_RECORDS_DROPPED, ENTRIES_LOST, LOSSES];

/// Counts a loss of what the log had confirmed.
pub fn loss_found() {
    metrics::counter!(LOSSES.name).increment(1);
}

/// Logs and counts entries that somebody removed from the log while they were pending.
pub(crate) fn entries_lost(lost: &[Position]) {
    for position in lost {
        tracing::error!(%position, "a pending entry is no longer in the log: its events may be lost");
    }
    if !lost.is_empty() {
        metrics::counter!(ENTRIES_LOST.name).increment(lost.len() as u64);
    }
}
