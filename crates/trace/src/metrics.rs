//! The metrics of traces.

use sluice_service::metrics::Metric;

/// Spans that were sent to the collector, could not be sent, or were dropped because too many waited.
pub const TRACE_SPANS: Metric = Metric::counter("sluice_trace_spans_total", &["result"], "spans");

/// Every metric that the export of spans records.
pub const ALL: &[Metric] = &[TRACE_SPANS];
