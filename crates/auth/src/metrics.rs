//! The metrics that authentication records.

use sluice_service::metrics::Metric;

/// Whether what a source of credentials holds is in force: 0 while the last good version of it is used instead.
pub const SOURCE_CURRENT: Metric = Metric::gauge("sluice_auth_source_current", &["source"], "boolean");
/// Versions of a file of credentials that could not be read or are wrong, and fetches of keys that failed.
pub const SOURCE_FAILURES: Metric = Metric::counter("sluice_auth_source_failures_total", &["source"], "failures");

/// Every metric of authentication.
pub const ALL: &[Metric] = &[SOURCE_CURRENT, SOURCE_FAILURES];
