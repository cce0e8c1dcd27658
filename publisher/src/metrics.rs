//! The metrics that the publisher records, beside those of every server
//! ([`sluice_service::metrics`]).

use sluice_service::metrics::Metric;

/// Publishing requests that were answered. `code` is `accepted` or the code of the problem.
pub const REQUESTS: Metric = Metric::counter("sluice_publish_requests_total", &["code"], "requests");
/// Events accepted: the log has them on disk.
pub const EVENTS: Metric = Metric::counter("sluice_publish_events_total", &[], "events");
/// Sizes of the accepted bodies, after decompression.
pub const BODY_BYTES: Metric = Metric::counter("sluice_publish_body_bytes_total", &[], "bytes");
/// Entries appended to the log.
pub const ENTRIES: Metric = Metric::counter("sluice_publish_entries_total", &[], "entries");
/// Sizes of the appended entries, as the log stores them.
pub const ENTRY_BYTES: Metric = Metric::counter("sluice_publish_entry_bytes_total", &[], "bytes");
/// The time of one attempt to append an entry, whatever its outcome.
pub const APPEND_SECONDS: Metric = Metric::histogram("sluice_publish_append_seconds", &[], "seconds");
/// Appends repeated because the log was unavailable.
pub const APPEND_REPEATS: Metric = Metric::counter("sluice_publish_append_repeats_total", &[], "appends");
/// Requests that wait for the log to store their events.
pub const WAITING_REQUESTS: Metric = Metric::gauge("sluice_publish_waiting_requests", &[], "requests");
/// Events accepted and not stored yet, as the publisher last measured them; NaN when unknown. The
/// operator scales by it.
pub const BACKLOG_EVENTS: Metric = Metric::gauge("sluice_publish_backlog_events", &[], "events");
/// The share of its memory that the log uses, from 0 to 1; NaN when unknown or unbounded.
pub const LOG_MEMORY_RATIO: Metric = Metric::gauge("sluice_publish_log_memory_ratio", &[], "ratio");

/// Topics whose schemas are in force here; absent until they were read.
pub const SCHEMAS: Metric = Metric::gauge("sluice_publish_schemas", &[], "topics");
/// Schemas that this publisher cannot use, so that the events of their topics are not checked.
pub const SCHEMAS_UNUSABLE: Metric = Metric::gauge("sluice_publish_schemas_unusable", &[], "schemas");
/// Events that did not match the schema of their topic, by what the topic's `policy` makes of them.
pub const SCHEMA_VIOLATIONS: Metric = Metric::counter("sluice_publish_schema_violations_total", &["policy"], "events");

/// Every metric that only the publisher records.
pub const ALL: &[Metric] = &[
    REQUESTS,
    EVENTS,
    BODY_BYTES,
    ENTRIES,
    ENTRY_BYTES,
    APPEND_SECONDS,
    APPEND_REPEATS,
    WAITING_REQUESTS,
    BACKLOG_EVENTS,
    LOG_MEMORY_RATIO,
    SCHEMAS,
    SCHEMAS_UNUSABLE,
    SCHEMA_VIOLATIONS,
];
