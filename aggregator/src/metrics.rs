//! What is counted and said while aggregating. Labels are bounded: a verb of the log, a kind of
//! error.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use sluice_log::{Backlog, LogError, Position};

use sluice_store::StoreError;
use sluice_store::commit::Outcome;

pub(crate) fn committed(outcome: &Outcome) {
    counter!("sluice_batches_committed_total").increment(1);
    counter!("sluice_events_received_total").increment(outcome.counts.received);
    counter!("sluice_events_unique_total").increment(outcome.counts.unique);
    counter!("sluice_events_duplicate_total").increment(outcome.counts.duplicates);
    counter!("sluice_events_conflict_total").increment(outcome.counts.conflicts);
    counter!("sluice_events_dead_lettered_total").increment(outcome.dead_lettered);
    counter!("sluice_receipts_skipped_total").increment(outcome.skipped);
}

pub(crate) fn commit_time(time: Duration) {
    histogram!("sluice_commit_seconds").record(time.as_secs_f64());
}

pub(crate) fn commit_error(error: &StoreError) {
    let kind = match error {
        StoreError::Refused { .. } => "refused",
        StoreError::Conflict(_) => "conflict",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Failed(_) => "failed",
    };
    counter!("sluice_commit_errors_total", "kind" => kind).increment(1);
}

pub(crate) fn log_error(verb: &'static str, error: &LogError) {
    counter!("sluice_log_errors_total", "verb" => verb).increment(1);
    tracing::warn!(verb, %error, "the log did not answer well, trying again");
}

pub(crate) fn recovered(entries: usize) {
    counter!("sluice_entries_recovered_total").increment(entries as u64);
}

pub(crate) fn claimed(entries: usize) {
    if entries > 0 {
        tracing::info!(entries, "claimed what another replica left pending");
    }
    counter!("sluice_entries_claimed_total").increment(entries as u64);
}

pub(crate) fn lost(positions: &[Position]) {
    for position in positions {
        tracing::error!(%position, "LOST: the entry was pending and is no longer in the stream; was it trimmed by hand?");
    }
    counter!("sluice_entries_lost_total").increment(positions.len() as u64);
}

pub(crate) fn unknown_version() {
    counter!("sluice_entries_unknown_version_total").increment(1);
}

pub(crate) fn trimmed(entries: u64) {
    counter!("sluice_entries_trimmed_total").increment(entries);
}

pub(crate) fn backlog(backlog: &Backlog) {
    // Unknown is not zero: NaN is what Prometheus shows as no value.
    let known = |number: Option<u64>| number.map_or(f64::NAN, |n| n as f64);
    gauge!("sluice_backlog_events").set(known(backlog.events));
    gauge!("sluice_lag_entries").set(known(backlog.lag));
    gauge!("sluice_pending_entries").set(backlog.pending as f64);
}
