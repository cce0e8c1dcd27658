//! The metrics that the aggregator records, beside those of every server
//! ([`sluice_service::metrics`]), and the functions that record them. Several of these functions also
//! log the event, so that the log and the metrics agree.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use sluice_event::Timestamp;
use sluice_log::replay::LogMarks;
use sluice_log::{Backlog, LogError};
use sluice_service::log_limit::LogLimit;
use sluice_service::metrics::Metric;
use sluice_store::commit::Outcome;
use sluice_store::meters::MeterFigures;
use sluice_store::{PartitionFigures, StoreError};

use crate::last_audit::LastAudit;
use crate::replica::commit_watch::{CommitWatch, Reason};

/// Transactions committed.
pub const BATCHES_COMMITTED: Metric = Metric::counter("sluice_batches_committed_total", &[], "batches");
/// Events that arrived in committed batches: new ones and duplicates.
pub const EVENTS_RECEIVED: Metric = Metric::counter("sluice_events_received_total", &[], "events");
/// Events stored.
pub const EVENTS_UNIQUE: Metric = Metric::counter("sluice_events_unique_total", &[], "events");
/// Events dropped because their key was stored already.
pub const EVENTS_DUPLICATE: Metric = Metric::counter("sluice_events_duplicate_total", &[], "events");
/// Duplicates whose payload differs from the stored one.
pub const EVENTS_CONFLICT: Metric = Metric::counter("sluice_events_conflict_total", &[], "events");
/// Events stored as dead letters.
pub const EVENTS_DEAD_LETTERED: Metric = Metric::counter("sluice_events_dead_lettered_total", &[], "events");
/// Entries and requests skipped because their receipt was stored already.
pub const RECEIPTS_SKIPPED: Metric = Metric::counter("sluice_receipts_skipped_total", &[], "receipts");
/// The time of one transaction that was committed.
pub const COMMIT_SECONDS: Metric = Metric::histogram("sluice_commit_seconds", &[], "seconds");
/// Transactions that failed and are repeated. `kind` is the variant of the store's error.
pub const COMMIT_ERRORS: Metric = Metric::counter("sluice_commit_errors_total", &["kind"], "errors");
/// Calls of the log that failed. `verb` is the method of the log.
pub const LOG_ERRORS: Metric = Metric::counter("sluice_log_errors_total", &["verb"], "errors");
/// Entries that this replica left pending when it ended, and read again at its start.
pub const ENTRIES_RECOVERED: Metric = Metric::counter("sluice_entries_recovered_total", &[], "entries");
/// Entries claimed from other replicas.
pub const ENTRIES_CLAIMED: Metric = Metric::counter("sluice_entries_claimed_total", &[], "entries");
/// Entries left pending because their version is newer than this build.
pub const ENTRIES_UNKNOWN_VERSION: Metric = Metric::counter("sluice_entries_unknown_version_total", &[], "entries");
/// Entries whose bytes changed in the log, stored as dead letters.
pub const ENTRIES_DAMAGED: Metric = Metric::counter("sluice_damaged_entries_total", &[], "entries");
/// Damaged rows of events that were read by queries.
pub const DAMAGED_ROWS: Metric = Metric::counter("sluice_damaged_rows_total", &[], "rows");
/// Acknowledged entries removed from the log.
pub const ENTRIES_TRIMMED: Metric = Metric::counter("sluice_entries_trimmed_total", &[], "entries");
/// Events in the log that are not acknowledged; NaN when unknown.
pub const BACKLOG_EVENTS: Metric = Metric::gauge("sluice_backlog_events", &[], "events");
/// Entries that no replica has read yet; NaN when unknown.
pub const LAG_ENTRIES: Metric = Metric::gauge("sluice_lag_entries", &[], "entries");
/// Entries read by some replica and not acknowledged.
pub const PENDING_ENTRIES: Metric = Metric::gauge("sluice_pending_entries", &[], "entries");

/// The age of the oldest batch that is read and not committed; 0 when there is none.
pub const OLDEST_BATCH_SECONDS: Metric = Metric::gauge("sluice_oldest_uncommitted_batch_seconds", &[], "seconds");
/// Batches whose commit has failed at least three times in a row. `reason` is why it failed last.
pub const STUCK_BATCHES: Metric = Metric::gauge("sluice_stuck_batches", &["reason"], "batches");
/// Sessions of the database that were ended because they were stuck in COPY and held receipts back.
pub const SESSIONS_ENDED: Metric = Metric::counter("sluice_sessions_ended_total", &[], "sessions");
/// Disk space of the receipts in PostgreSQL.
pub const RECEIPTS_BYTES: Metric = Metric::gauge("sluice_receipts_bytes", &[], "bytes");
/// Disk space of all tables in PostgreSQL, with their indexes.
pub const STORE_BYTES: Metric = Metric::gauge("sluice_store_bytes", &[], "bytes");
/// Partitions of events in PostgreSQL, with the open one.
pub const EVENT_PARTITIONS: Metric = Metric::gauge("sluice_event_partitions", &[], "partitions");
/// Closed partitions whose filter this replica does not have in memory: it looks every key up in them.
pub const PARTITIONS_WITHOUT_FILTER: Metric = Metric::gauge("sluice_partitions_without_filter", &[], "partitions");
/// Memory of the filters of closed partitions.
pub const FILTER_BYTES: Metric = Metric::gauge("sluice_filter_bytes", &[], "bytes");
/// Meters.
pub const METERS: Metric = Metric::gauge("sluice_meters", &[], "meters");
/// Meters whose events of the time before they were added or changed are still being counted.
pub const METERS_INCOMPLETE: Metric = Metric::gauge("sluice_meters_incomplete", &[], "meters");
/// Failures of adding up what batches have written for meters.
pub const METER_ERRORS: Metric = Metric::counter("sluice_meter_errors_total", &[], "errors");
/// Topics with a schema.
pub const SCHEMAS: Metric = Metric::gauge("sluice_schemas", &[], "topics");
/// Failures of telling the publishers which schemas are in force.
pub const SCHEMA_ERRORS: Metric = Metric::counter("sluice_schema_errors_total", &[], "errors");
/// 1 if the file of schemas was changed to one that cannot be used, else 0; absent without such a file.
pub const SCHEMAS_FILE_UNUSABLE: Metric = Metric::gauge("sluice_schemas_file_unusable", &[], "files");
/// 1 if the file of meters was changed to one that cannot be used, else 0; absent without such a file.
pub const METERS_FILE_UNUSABLE: Metric = Metric::gauge("sluice_meters_file_unusable", &[], "files");
/// Keys that were looked up in closed partitions.
pub const KEYS_LOOKED_UP: Metric = Metric::counter("sluice_keys_looked_up_total", &[], "keys");
/// Keys that were found there.
pub const KEYS_FOUND: Metric = Metric::counter("sluice_keys_found_total", &[], "keys");

/// Events whose content was erased.
pub const ERASED_EVENTS: Metric = Metric::counter("sluice_erased_events_total", &[], "events");
/// Streams of events that are open.
pub const FEED_STREAMS: Metric = Metric::gauge("sluice_feed_streams", &[], "streams");
/// Streams of events that were refused because too many were open.
pub const FEED_STREAMS_REFUSED: Metric = Metric::counter("sluice_feed_streams_refused_total", &[], "streams");

/// Whether the store has lost commits that are being stored again: 1 or 0.
pub const REPLAY_PENDING: Metric = Metric::gauge("sluice_replay_pending", &[], "boolean");
/// How far back everything that was acknowledged is still in the log, so that it could be stored again; NaN when
/// unknown.
pub const REPLAY_COVERED_SECONDS: Metric = Metric::gauge("sluice_replay_covered_seconds", &[], "seconds");
/// Losses of commits of the store that this replica has found.
pub const STORE_LOSSES: Metric = Metric::counter("sluice_store_losses_total", &[], "losses");
/// Entries that this replica has stored again, or found stored, after a loss.
pub const ENTRIES_REPLAYED: Metric = Metric::counter("sluice_entries_replayed_total", &[], "entries");
/// The time since which events may be missing after the last loss of the store, in seconds since 1970; NaN when
/// nothing is missing.
pub const MISSING_FROM: Metric = Metric::gauge("sluice_missing_from_timestamp_seconds", &[], "seconds");
/// The time until which they may be missing.
pub const MISSING_UNTIL: Metric = Metric::gauge("sluice_missing_until_timestamp_seconds", &[], "seconds");

/// Whether this replica found a log that is older than the receipts, because it was restored from a backup: 1 or absent.
pub const LOG_OLDER_THAN_RECEIPTS: Metric = Metric::gauge("sluice_log_older_than_receipts", &[], "boolean");

/// 1 for the verdict of the last audit that was noted, and 0 for the others; NaN if none was. `verdict` is one of
/// [`LastAudit::VERDICTS`].
pub const LAST_AUDIT_VERDICT: Metric = Metric::gauge("sluice_last_audit_verdict", &["verdict"], "boolean");
/// When the last audit that was noted ended, in seconds since 1970; NaN if none was.
pub const LAST_AUDIT_TIME: Metric = Metric::gauge("sluice_last_audit_timestamp_seconds", &[], "seconds");
/// For how long the oldest of what the retention should have removed has been there; 0 if nothing is. `what` is `events`, or
/// `tables` of events that are removed. NaN when unknown.
pub const RETENTION_OVERDUE: Metric = Metric::gauge("sluice_retention_overdue_seconds", &["what"], "seconds");
/// For how long the open partition of events should have been closed; 0 if it should not. NaN when unknown.
pub const PARTITION_CLOSE_OVERDUE: Metric = Metric::gauge("sluice_partition_close_overdue_seconds", &[], "seconds");

/// Every metric that only the aggregator records.
pub const ALL: &[Metric] = &[
    BATCHES_COMMITTED,
    EVENTS_RECEIVED,
    EVENTS_UNIQUE,
    EVENTS_DUPLICATE,
    EVENTS_CONFLICT,
    EVENTS_DEAD_LETTERED,
    RECEIPTS_SKIPPED,
    COMMIT_SECONDS,
    COMMIT_ERRORS,
    LOG_ERRORS,
    ENTRIES_RECOVERED,
    ENTRIES_CLAIMED,
    ENTRIES_UNKNOWN_VERSION,
    ENTRIES_DAMAGED,
    DAMAGED_ROWS,
    ENTRIES_TRIMMED,
    BACKLOG_EVENTS,
    LAG_ENTRIES,
    PENDING_ENTRIES,
    OLDEST_BATCH_SECONDS,
    STUCK_BATCHES,
    SESSIONS_ENDED,
    RECEIPTS_BYTES,
    STORE_BYTES,
    EVENT_PARTITIONS,
    PARTITIONS_WITHOUT_FILTER,
    METERS,
    METERS_INCOMPLETE,
    METER_ERRORS,
    METERS_FILE_UNUSABLE,
    SCHEMAS,
    SCHEMA_ERRORS,
    SCHEMAS_FILE_UNUSABLE,
    FILTER_BYTES,
    KEYS_LOOKED_UP,
    KEYS_FOUND,
    ERASED_EVENTS,
    FEED_STREAMS,
    FEED_STREAMS_REFUSED,
    REPLAY_PENDING,
    REPLAY_COVERED_SECONDS,
    STORE_LOSSES,
    ENTRIES_REPLAYED,
    MISSING_FROM,
    MISSING_UNTIL,
    LOG_OLDER_THAN_RECEIPTS,
    LAST_AUDIT_VERDICT,
    LAST_AUDIT_TIME,
    RETENTION_OVERDUE,
    PARTITION_CLOSE_OVERDUE,
];

/// Counts a committed batch.
pub(crate) fn committed(outcome: &Outcome) {
    counter!(BATCHES_COMMITTED.name).increment(1);
    counter!(EVENTS_RECEIVED.name).increment(outcome.counts.received);
    counter!(EVENTS_UNIQUE.name).increment(outcome.counts.unique);
    counter!(EVENTS_DUPLICATE.name).increment(outcome.counts.duplicates);
    counter!(EVENTS_CONFLICT.name).increment(outcome.counts.conflicts);
    counter!(EVENTS_DEAD_LETTERED.name).increment(outcome.dead_lettered);
    counter!(RECEIPTS_SKIPPED.name).increment(outcome.skipped);
}

/// Records the time of a committed transaction.
pub(crate) fn commit_time(time: Duration) {
    histogram!(COMMIT_SECONDS.name).record(time.as_secs_f64());
}

/// Counts a failed transaction by the kind of its error.
pub(crate) fn commit_error(error: &StoreError) {
    let kind = match error {
        StoreError::Refused { .. } => "refused",
        StoreError::Conflict(_) => "conflict",
        StoreError::TooSlow(_) => "too_slow",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::DiskFull(_) => "disk_full",
        StoreError::Damaged(_) => "damaged",
        StoreError::Behind(_) => "behind",
        StoreError::Failed(_) => "failed",
    };
    counter!(COMMIT_ERRORS.name, "kind" => kind).increment(1);
}

/// Counts and logs a failed call of the log; `verb` is the name of the method.
pub(crate) fn log_error(verb: &'static str, error: &LogError) {
    counter!(LOG_ERRORS.name, "verb" => verb).increment(1);
    tracing::warn!(verb, %error, "a call of the log failed");
}

/// Counts entries that this replica had left pending before it was restarted.
pub(crate) fn recovered(entries: usize) {
    counter!(ENTRIES_RECOVERED.name).increment(entries as u64);
}

/// Counts and logs entries claimed from other replicas.
pub(crate) fn claimed(entries: usize) {
    if entries > 0 {
        tracing::info!(entries, "claimed entries that another replica left pending");
    }
    counter!(ENTRIES_CLAIMED.name).increment(entries as u64);
}

/// Counts an entry of a version that this build cannot decode.
pub(crate) fn unknown_version() {
    counter!(ENTRIES_UNKNOWN_VERSION.name).increment(1);
}

/// Counts an entry whose checksum does not match its bytes.
pub(crate) fn damaged_entry() {
    counter!(ENTRIES_DAMAGED.name).increment(1);
}

/// Counts a damaged row that a query read, and logs it at a bounded rate: a client can read the same ones again and
/// again.
pub(crate) fn damaged_row(seq: i64, topic: &str, event_id: &str) {
    static LINES: LogLimit = LogLimit::per_second(1);
    counter!(DAMAGED_ROWS.name).increment(1);
    if let Some(left_out) = LINES.allow() {
        tracing::error!(seq, topic, event_id, left_out, "a stored event is damaged: its row does not match its hashes");
    }
}

/// Counts acknowledged entries that were removed from the log.
pub(crate) fn trimmed(entries: u64) {
    counter!(ENTRIES_TRIMMED.name).increment(entries);
}

/// Sets the gauges of the backlog. An unknown number is not zero: it becomes NaN, which Prometheus
/// shows as no value.
pub(crate) fn backlog(backlog: &Backlog) {
    let or_nan = |number: Option<u64>| number.map_or(f64::NAN, |n| n as f64);
    gauge!(BACKLOG_EVENTS.name).set(or_nan(backlog.events));
    gauge!(LAG_ENTRIES.name).set(or_nan(backlog.lag));
    gauge!(PENDING_ENTRIES.name).set(backlog.pending as f64);
}

/// Sets the number of sessions of the database that this process has ended.
pub(crate) fn sessions_ended(sessions: u64) {
    counter!(SESSIONS_ENDED.name).absolute(sessions);
}

/// Shows the disk space of the receipts and of all tables, as far as the store tells it.
pub(crate) fn disk_space(receipts: Option<u64>, all: Option<u64>) {
    if let Some(bytes) = receipts {
        gauge!(RECEIPTS_BYTES.name).set(bytes as f64);
    }
    if let Some(bytes) = all {
        gauge!(STORE_BYTES.name).set(bytes as f64);
    }
}

/// Shows the meters, if this replica was the one to maintain them.
pub(crate) fn meters(figures: Option<&MeterFigures>) {
    let Some(MeterFigures { meters, .. }) = figures else { return };
    let incomplete = meters.iter().filter(|meter| meter.next.is_some() || !meter.shown.is_complete()).count();
    gauge!(METERS.name).set(meters.len() as f64);
    gauge!(METERS_INCOMPLETE.name).set(incomplete as f64);
}

/// Counts a failure of the maintenance of meters.
pub(crate) fn meter_error() {
    counter!(METER_ERRORS.name).increment(1);
}

/// Shows how many topics have a schema.
pub(crate) fn schemas(count: usize) {
    gauge!(SCHEMAS.name).set(count as f64);
}

/// Counts a failure of telling the publishers which schemas are in force.
pub(crate) fn schema_error() {
    counter!(SCHEMA_ERRORS.name).increment(1);
}

/// Shows whether the file of schemas can be used.
pub(crate) fn schemas_file(is_usable: bool) {
    gauge!(SCHEMAS_FILE_UNUSABLE.name).set(f64::from(u8::from(!is_usable)));
}

/// Shows whether the file of meters can be used.
pub(crate) fn meters_file(is_usable: bool) {
    gauge!(METERS_FILE_UNUSABLE.name).set(f64::from(u8::from(!is_usable)));
}

/// Shows the partitions of events, if the store has any.
pub(crate) fn partitions(figures: Option<PartitionFigures>) {
    let Some(figures) = figures else { return };
    gauge!(EVENT_PARTITIONS.name).set(figures.partitions as f64);
    gauge!(PARTITIONS_WITHOUT_FILTER.name).set(figures.without_filter as f64);
    gauge!(FILTER_BYTES.name).set(figures.filter_bytes as f64);
    counter!(KEYS_LOOKED_UP.name).absolute(figures.keys_looked_up);
    counter!(KEYS_FOUND.name).absolute(figures.keys_found);
}

/// Counts a stream of events that begins.
pub(crate) fn stream_opened() {
    gauge!(FEED_STREAMS.name).increment(1.0);
}

/// Counts a stream of events that has ended.
pub(crate) fn stream_closed() {
    gauge!(FEED_STREAMS.name).decrement(1.0);
}

/// Counts a stream of events that was refused.
pub(crate) fn stream_refused() {
    counter!(FEED_STREAMS_REFUSED.name).increment(1);
}

/// Counts events whose content was erased.
pub(crate) fn erased(events: u64) {
    counter!(ERASED_EVENTS.name).increment(events);
}

/// Counts a loss of commits.
pub(crate) fn loss_found() {
    counter!(STORE_LOSSES.name).increment(1);
}

/// Notes that the log is older than the receipts.
pub(crate) fn log_is_older() {
    gauge!(LOG_OLDER_THAN_RECEIPTS.name).set(1.0);
}

/// Counts entries that were stored again.
pub(crate) fn replayed(entries: usize) {
    counter!(ENTRIES_REPLAYED.name).increment(entries as u64);
}

/// Sets the gauges of the replay window and of the last loss.
pub(crate) fn replay_window(remembered: &LogMarks) {
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let covered = remembered.covered_since.map(|since| remembered.now.saturating_sub(since));
    gauge!(REPLAY_PENDING.name).set(f64::from(u8::from(remembered.replay.is_some())));
    gauge!(REPLAY_COVERED_SECONDS.name).set(covered.map_or(f64::NAN, seconds));
    let missing = remembered.loss.filter(|loss| !loss.is_covered());
    // Without any commit that was not lost, everything since 1970.
    let from = missing.map(|loss| loss.survived.unwrap_or(0));
    let until = missing.map(|loss| loss.covered_since.unwrap_or(loss.detected));
    gauge!(MISSING_FROM.name).set(from.map_or(f64::NAN, seconds));
    gauge!(MISSING_UNTIL.name).set(until.map_or(f64::NAN, seconds));
}

/// Sets the gauges of the batches that are not committed.
pub(crate) fn uncommitted(watch: &CommitWatch) {
    gauge!(OLDEST_BATCH_SECONDS.name).set(watch.oldest().as_secs_f64());
    let stuck = watch.stuck();
    for reason in Reason::ALL {
        let batches = stuck.iter().filter(|batch| batch.reason == reason).count();
        gauge!(STUCK_BATCHES.name, "reason" => reason.label()).set(batches as f64);
    }
}

/// Shows the last audit that was noted, if one was.
pub(crate) fn last_audit(audit: Option<LastAudit>) {
    for verdict in LastAudit::VERDICTS {
        let is_it = audit.as_ref().map_or(f64::NAN, |audit| f64::from(u8::from(audit.verdict == verdict)));
        gauge!(LAST_AUDIT_VERDICT.name, "verdict" => verdict).set(is_it);
    }
    let time = audit.and_then(|audit| audit.at.parse::<Timestamp>().ok());
    gauge!(LAST_AUDIT_TIME.name).set(time.map_or(f64::NAN, |time| time.as_micros() as f64 / 1e6));
}

/// Shows for how long something should have been gone: `events`, or `tables` of removed ones.
pub(crate) fn retention_overdue(what: &'static str, time: Option<Duration>) {
    gauge!(RETENTION_OVERDUE.name, "what" => what).set(time.map_or(f64::NAN, |time| time.as_secs_f64()));
}

/// Shows for how long the open partition should have been closed; `None` is not known.
pub(crate) fn partition_close_overdue(time: Option<Duration>) {
    gauge!(PARTITION_CLOSE_OVERDUE.name).set(time.map_or(f64::NAN, |time| time.as_secs_f64()));
}
