//! The alerts about the publishers and aggregators of a resource.

use super::{Alert, Severity};

/// All alerts about the programs of a resource.
pub const OF_PROGRAMS: &[Alert] = &[
    Alert {
        name: "SluiceNoPublishers",
        expr: "absent(sluice_publish_backlog_events{@})",
        // Nothing tells which resources there should be: those that had publishers within the last hours.
        everywhere: Some(
            "group by (*) (present_over_time(sluice_publish_backlog_events[6h])) \
             unless group by (*) (sluice_publish_backlog_events)",
        ),
        for_: Some("10m"),
        severity: Severity::Critical,
        summary: "No publisher of @ has metrics",
        description: "Either no publisher runs, so that no event is accepted, or Prometheus cannot reach them.",
    },
    Alert {
        name: "SluiceNothingStored",
        expr: "sum by (*) (rate(sluice_publish_events_total{@}[5m])) > 0 \
               and max by (*) (sluice_publish_backlog_events{@}) > 0 \
               unless sum by (*) (rate(sluice_events_received_total{@}[5m])) > 0",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Critical,
        summary: "@ accepts events and stores none",
        description: "The events wait in Redis. When the backlog or the memory of Redis reaches its limit, publishing is \
                      refused.",
    },
    Alert {
        name: "SluiceProgramUnreachable",
        expr: "up{@} == 0",
        everywhere: Some("up{eventaggregator!=\"\"} == 0"),
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "A program of @ does not answer at {{ $labels.instance }}",
        description: "It has crashed or hangs, or Prometheus may not reach it. The other replicas take over its work.",
    },
    Alert {
        name: "SluiceRedisUnavailable",
        expr: "sum by (*) (rate(sluice_log_errors_total{@}[5m])) > 0 \
               or sum by (*) (rate(sluice_publish_append_repeats_total{@}[5m])) > 0",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Critical,
        summary: "Calls of Redis by @ fail",
        description: "While Redis does not answer, no event is accepted (503) and none is stored. Nothing that was \
                      accepted is lost if it comes back with its disk.",
    },
    Alert {
        name: "SluiceEventsLost",
        expr: concat!(grown!("sluice_log_losses_total", "24h"), " or ", grown!("sluice_entries_lost_total", "24h")),
        everywhere: None,
        for_: None,
        severity: Severity::Critical,
        summary: "Redis lost events that @ had accepted",
        description: "The log of the programs says between which times. Clients must send again what they sent then.",
    },
    Alert {
        name: "SluiceEventsMissing",
        // 0 means that nothing is known to have survived. NaN, which means that nothing is missing, is not above it.
        expr: "max by (*) (sluice_missing_from_timestamp_seconds{@}) >= 0",
        everywhere: None,
        for_: None,
        severity: Severity::Critical,
        summary: "PostgreSQL lost events of @ that cannot be stored again",
        description: "It lost commits that reach back beyond what Redis still has. Clients must send again what they \
                      sent between the two times of the metrics.",
    },
    Alert {
        name: "SluiceRedisRestoredTooOld",
        expr: "max by (*) (sluice_log_older_than_receipts{@}) > 0",
        everywhere: None,
        for_: None,
        severity: Severity::Critical,
        summary: "The Redis of @ was restored from a backup that is older than the receipts",
        description: "Events that it delivers again may have been counted twice. The rows are right.",
    },
    Alert {
        name: "SluiceAuditDiffers",
        expr: "max by (*) (sluice_last_audit_verdict{@,verdict=\"different\"}) > 0",
        everywhere: None,
        for_: None,
        severity: Severity::Critical,
        summary: "The last audit of @ that was noted has found a difference",
        description: "Events are missing, or were counted twice. The audit tells which numbers differ.",
    },
    Alert {
        name: "SluiceDamage",
        expr: concat!(
            grown!("sluice_damaged_entries_total", "24h"),
            " or ",
            grown!("sluice_damaged_rows_total", "24h")
        ),
        everywhere: None,
        for_: None,
        severity: Severity::Critical,
        summary: "Bytes of @ changed on a disk",
        description: "An entry in Redis or a row in PostgreSQL does not match its hash.",
    },
    Alert {
        name: "SluicePublishRefused",
        expr: "sum by (*, code) (rate(sluice_publish_requests_total{@,code=~\"backlog_full|log_full|log_memory_full|\
               log_unavailable|queue_full\"}[5m])) > 0",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "Publishers of @ refuse events with {{ $labels.code }}",
        description: "Clients are answered 429 or 503 and must repeat their requests.",
    },
    Alert {
        name: "SluicePublishSlow",
        expr: "histogram_quantile(0.99, sum by (*, le) \
               (rate(sluice_http_request_seconds_bucket{@,path=\"/publish\"}[5m]))) > 1",
        everywhere: None,
        for_: Some("10m"),
        severity: Severity::Warning,
        summary: "Publishing to @ takes {{ $value | humanizeDuration }} at the 99th percentile",
        description: "Redis writes each event to its disk before it is confirmed: its disk or its processor is busy.",
    },
    Alert {
        name: "SluiceRedisMemory",
        expr: "max by (*) (sluice_publish_log_memory_ratio{@}) > 0.7",
        everywhere: None,
        for_: Some("10m"),
        severity: Severity::Warning,
        summary: "The Redis of @ uses {{ $value | humanizePercentage }} of its memory",
        description: "From 80 percent on (--max-memory), publishing is refused with 429.",
    },
    Alert {
        name: "SluiceBacklogGrows",
        expr: "max by (*) (sluice_publish_backlog_events{@}) > 1000 \
               and max by (*) (deriv(sluice_publish_backlog_events{@}[15m])) > 0",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "More is published to @ than stored: {{ $value }} events wait",
        description: "When the backlog reaches its limit, publishing answers 429.",
    },
    Alert {
        name: "SluiceStuck",
        // A commit that neither ends nor fails is told by its age, unless others say more.
        expr: concat!(
            "sum by (*, reason) (sluice_stuck_batches{@}) > 0 or label_replace((",
            "max by (*) (sluice_oldest_uncommitted_batch_seconds{@}) > 120 ",
            "unless sum by (*) (sluice_stuck_batches{@}) > 0), \"reason\", \"slow\", \"\", \"\") ",
            "or label_replace(max by (*) (sluice_replay_pending{@}) > 0, \"reason\", \"replay\", \"\", \"\") ",
            "or label_replace(sum by (*) (rate(sluice_entries_unknown_version_total{@}[5m])) > 0, ",
            "\"reason\", \"unknown_version\", \"\", \"\") ",
            // It needs PostgreSQL also while nothing is published, and has to do with all meters or none.
            "or label_replace(sum by (*) (rate(sluice_meter_errors_total{@}[5m])) > 0, ",
            "\"reason\", \"maintenance\", \"\", \"\")"
        ),
        everywhere: None,
        for_: Some("10m"),
        severity: Severity::Warning,
        summary: "Aggregators of @ are stuck: {{ $labels.reason }}",
        description: "They try again until they succeed, and nothing is lost. Their log has the error.",
    },
    Alert {
        name: "SluiceQueriesFail",
        expr: "sum by (*) (rate(sluice_http_requests_total{@,path!~\"/publish|/readyz|/healthz|/metrics\",\
               status=~\"5..\"}[5m])) / sum by (*) (rate(sluice_http_requests_total\
               {@,path!~\"/publish|/readyz|/healthz|/metrics\"}[5m])) > 0.05",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "{{ $value | humanizePercentage }} of the queries to @ fail",
        description: "The answers are 5xx: PostgreSQL or the aggregators do not answer, or not in time. Publishing may \
                      go on.",
    },
    Alert {
        name: "SluiceDeadLetters",
        expr: grown!("sluice_events_dead_lettered_total", "1h"),
        everywhere: None,
        for_: None,
        severity: Severity::Warning,
        summary: "Events of @ could not be stored",
        description: "They are kept as dead letters with a reason, and wait for a decision.",
    },
    Alert {
        name: "SluiceNotDurable",
        expr: "min by (*, setting) (sluice_durability_setting{@}) < 1",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "The setting {{ $labels.setting }} of @ is less than durability needs",
        description: "Events that were confirmed may be lost when that server fails.",
    },
    Alert {
        name: "SluiceCertificateEnds",
        expr: "min by (*) (sluice_tls_certificate_expiry_timestamp_seconds{@}) - time() < 604800",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "A certificate of @ ends within 7 days",
        description: "After that, clients cannot connect any more.",
    },
    Alert {
        name: "SluiceFileUnusable",
        expr: concat!(
            "label_replace(min by (*) (sluice_auth_source_current{@}) < 1, \"what\", \"credentials\", \"\", \"\") ",
            "or label_replace(sum by (*) (rate(sluice_tls_reload_errors_total{@}[5m])) > 0, ",
            "\"what\", \"certificate\", \"\", \"\") ",
            "or label_replace(max by (*) (sluice_meters_file_unusable{@}) > 0, \"what\", \"meters\", \"\", \"\") ",
            "or label_replace(max by (*) (sluice_schemas_file_unusable{@}) > 0 ",
            "or max by (*) (sluice_publish_schemas_unusable{@}) > 0, \"what\", \"schemas\", \"\", \"\")"
        ),
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "New {{ $labels.what }} of @ cannot be used",
        description: "What was read before is used on: the change has no effect, and a program that is started now may \
                      not start.",
    },
    Alert {
        name: "SluicePartitionsWithoutFilter",
        expr: "max by (*) (sluice_partitions_without_filter{@}) > 0",
        everywhere: None,
        for_: Some("1h"),
        severity: Severity::Warning,
        summary: "Aggregators of @ have no filter of {{ $value }} partitions",
        description: "Every key is looked up in these partitions, which makes storing slower. Nothing is lost.",
    },
    Alert {
        name: "SluicePartitionNotClosed",
        // Closing is tried every few seconds.
        expr: "max by (*) (sluice_partition_close_overdue_seconds{@}) > 900",
        everywhere: None,
        for_: Some("5m"),
        severity: Severity::Warning,
        summary: "A partition of events of @ should have been closed {{ $value | humanizeDuration }} ago",
        description: "It grows beyond its limit: storing becomes slower, and its events are removed later than the \
                      retention says.",
    },
    Alert {
        name: "SluiceRetentionBehind",
        // A dump may read a table for as long.
        expr: "max by (*, what) (sluice_retention_overdue_seconds{@}) > 7200",
        everywhere: None,
        for_: Some("15m"),
        severity: Severity::Warning,
        summary: "The retention of @ is behind: {{ $labels.what }} should have been removed \
                  {{ $value | humanizeDuration }} ago",
        description: "What should be gone takes up the disk. If `what` is `events`, queries find them too.",
    },
    Alert {
        name: "SluiceMetersBehind",
        expr: "max by (*) (sluice_meters_incomplete{@}) > 0",
        everywhere: None,
        for_: Some("2h"),
        severity: Severity::Warning,
        summary: "Meters of @ do not get ready",
        description: "The events from before they were put are still being counted. Retention removes no event that is \
                      not counted yet.",
    },
    Alert {
        name: "SluiceConflicts",
        expr: grown!("sluice_events_conflict_total", "1h"),
        everywhere: None,
        for_: None,
        severity: Severity::Info,
        summary: "A client sends one event id to @ with different payloads",
        description: "The first payload stays. The log of the aggregators names each conflict.",
    },
];
