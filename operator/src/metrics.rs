//! The metrics that the operator records, in addition to those of every server ([`sluice_service::metrics`]).

use sluice_service::metrics::Metric;

/// 1 while this operator holds the lease and reconciles, else 0.
pub const LEADER: Metric = Metric::gauge("sluice_operator_leader", &[], "leaders");
/// Reconciles that ended. `result` is `Done`, `Unchanged` or the error's category.
pub const RECONCILES: Metric = Metric::counter("sluice_operator_reconciles_total", &["result"], "reconciles");
/// The duration of one reconcile.
pub const RECONCILE_SECONDS: Metric = Metric::histogram("sluice_operator_reconcile_seconds", &[], "seconds");
/// Objects applied because they were missing or had drifted, by kind.
pub const APPLIED: Metric = Metric::counter("sluice_operator_applied_total", &["kind"], "objects");
/// Requests to the API server. `verb` is the verb that an RBAC rule would name.
pub const API_REQUESTS: Metric = Metric::counter("sluice_operator_api_requests_total", &["verb"], "requests");
/// Fields of resources that the installed CustomResourceDefinition lacks, so that the API server drops them.
pub const MISSING_FIELDS: Metric = Metric::gauge("sluice_operator_missing_schema_fields", &[], "fields");
/// Whether a condition of a resource is true; NaN while that is not known.
pub const RESOURCE_CONDITION: Metric =
    Metric::gauge("sluice_operator_resource_condition", &["namespace", "name", "condition"], "boolean");
/// Events of a resource that are accepted and not stored yet; NaN while that is not known.
pub const RESOURCE_BACKLOG: Metric =
    Metric::gauge("sluice_operator_resource_backlog_events", &["namespace", "name"], "events");
/// Aggregators of a resource that exist.
pub const RESOURCE_AGGREGATORS: Metric =
    Metric::gauge("sluice_operator_resource_aggregators", &["namespace", "name"], "aggregators");
/// Aggregators of a resource that should exist.
pub const RESOURCE_DESIRED_AGGREGATORS: Metric =
    Metric::gauge("sluice_operator_resource_desired_aggregators", &["namespace", "name"], "aggregators");
/// The size of a volume of a resource.
pub const RESOURCE_VOLUME_BYTES: Metric =
    Metric::gauge("sluice_operator_resource_volume_bytes", &["namespace", "name", "component"], "bytes");
/// When a certificate of a resource ends.
pub const RESOURCE_CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "sluice_operator_resource_certificate_expiry_timestamp_seconds",
    &["namespace", "name", "component"],
    "seconds",
);

/// All metrics that only the operator records.
pub const ALL: &[Metric] = &[
    LEADER,
    RECONCILES,
    RECONCILE_SECONDS,
    APPLIED,
    API_REQUESTS,
    MISSING_FIELDS,
    RESOURCE_CONDITION,
    RESOURCE_BACKLOG,
    RESOURCE_AGGREGATORS,
    RESOURCE_DESIRED_AGGREGATORS,
    RESOURCE_VOLUME_BYTES,
    RESOURCE_CERTIFICATE_EXPIRY,
];
