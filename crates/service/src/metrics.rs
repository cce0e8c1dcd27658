//! Prometheus metrics: how a metric is declared, the metrics that every server records, and the
//! recorder. Names are `sluice_<what>_<unit>_total` for counters and `sluice_<what>_<unit>` for the
//! rest.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// A metric of a program. Each crate that records metrics declares them all in its `metrics.rs` and
/// lists them in an `ALL`; a test compares these sets with the places that record and with
/// `docs/metrics.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The labels' names. The values of each must be a bounded set, because every combination of
    /// values is a separate time series.
    pub labels: &'static [&'static str],
    /// The unit of its values: `events`, `seconds`, `bytes`, ...
    pub unit: &'static str,
}

/// The type of a metric, as in Prometheus' text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grows from 0 at the start of the process.
    Counter,
    /// The last value measured; NaN when it is not known.
    Gauge,
    /// Numbers of samples in buckets, with their sum.
    Histogram,
}

impl MetricKind {
    /// Returns the word of Prometheus' text format, which is also the name of the recording macro.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// Declares a counter.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], unit: &'static str) -> Self {
        Self { name, kind: MetricKind::Counter, labels, unit }
    }

    /// Declares a gauge.
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], unit: &'static str) -> Self {
        Self { name, kind: MetricKind::Gauge, labels, unit }
    }

    /// Declares a histogram.
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], unit: &'static str) -> Self {
        Self { name, kind: MetricKind::Histogram, labels, unit }
    }
}

/// Requests that got a response. `path` is the route's pattern, or `other` when there is none.
pub const HTTP_REQUESTS: Metric =
    Metric::counter("sluice_http_requests_total", &["method", "path", "status"], "requests");
/// The time from a request's head to its response.
pub const HTTP_REQUEST_SECONDS: Metric = Metric::histogram("sluice_http_request_seconds", &["path"], "seconds");
/// Log lines left out because clients caused too many of a kind.
pub const LOG_LINES_LEFT_OUT: Metric = Metric::counter("sluice_log_lines_left_out_total", &[], "lines");
/// Log lines lost because standard error was not read in time.
pub const LOG_LINES_LOST: Metric = Metric::counter("sluice_log_lines_lost_total", &[], "lines");
/// Whether a setting of Redis or PostgreSQL is as durability needs it.
pub const DURABILITY_SETTING: Metric = Metric::gauge("sluice_durability_setting", &["setting"], "boolean");
/// Whether the connection to a server can be read on the network.
pub const UNENCRYPTED_CONNECTION: Metric = Metric::gauge("sluice_unencrypted_connection", &["server"], "boolean");
/// When the certificate of the listener ends.
pub const TLS_CERTIFICATE_EXPIRY: Metric =
    Metric::gauge("sluice_tls_certificate_expiry_timestamp_seconds", &[], "seconds");
/// Times at which the files of the listener's TLS were found changed and could not be used.
pub const TLS_RELOAD_ERRORS: Metric = Metric::counter("sluice_tls_reload_errors_total", &[], "errors");
/// Connections to the listener with which no TLS came about.
pub const TLS_HANDSHAKE_ERRORS: Metric = Metric::counter("sluice_tls_handshake_errors_total", &["reason"], "errors");
/// The memory that the process holds (its resident set). It has the name that Prometheus' client
/// libraries give it, so that common dashboards find it.
pub const RESIDENT_MEMORY_BYTES: Metric = Metric::gauge("process_resident_memory_bytes", &[], "bytes");

/// Every metric that all servers record.
pub const ALL: &[Metric] = &[
    HTTP_REQUESTS,
    HTTP_REQUEST_SECONDS,
    LOG_LINES_LEFT_OUT,
    LOG_LINES_LOST,
    DURABILITY_SETTING,
    UNENCRYPTED_CONNECTION,
    TLS_CERTIFICATE_EXPIRY,
    TLS_RELOAD_ERRORS,
    TLS_HANDSHAKE_ERRORS,
    RESIDENT_MEMORY_BYTES,
];

/// Bounds of every histogram of seconds: from half a millisecond to half a minute.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// How often samples of histograms are moved to their buckets. Without this the samples would use more and more
/// memory when nothing scrapes the metrics.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the process's recorder of metrics, and returns the handle that renders them. Further calls return the
/// same handle.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(start).clone()
}

fn start() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let builder = builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .unwrap_or_else(|_| PrometheusBuilder::new());
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed: /metrics will stay empty");
    }
    let upkeep = handle.clone();
    let thread = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            upkeep.run_upkeep();
        }
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "cannot start the thread that maintains histograms");
    }
    handle
}
