//! The report of a run: one JSON object on standard output.

use std::io::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::send::Tally;

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Number of events in requests that were answered, duplicates included.
    pub(crate) sent: u64,
    /// Number of events that the responses reported as accepted, which is the same: a response that says less is no answer.
    pub(crate) accepted: u64,
    /// Number of different events among those sent, and of the others.
    pub(crate) unique: u64,
    pub(crate) duplicates: u64,
    /// The time from the first request to the last response.
    pub(crate) seconds: f64,
    pub(crate) events_per_second: f64,
    pub(crate) latency_ms: Latency,
    /// Number of attempts beyond the first of each request.
    pub(crate) retries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Whether every event was stored once and counted exactly; only if verification was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<bool>,
    /// The differences found by the verification.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<String>,
}

/// The time from a request's first attempt to its response, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Latency {
    fn of(micros: &Histogram<u64>) -> Self {
        let millis = |quantile| micros.value_at_quantile(quantile) as f64 / 1_000.0;
        Self { p50: millis(0.50), p95: millis(0.95), p99: millis(0.99) }
    }
}

impl Report {
    /// Returns the report on the sent requests; nothing is verified yet.
    pub(crate) fn new(tally: &Tally, unique: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            sent: tally.sent,
            accepted: tally.sent,
            unique,
            duplicates: tally.sent.saturating_sub(unique),
            seconds: (seconds * 1_000.0).round() / 1_000.0,
            events_per_second: (tally.sent as f64 / seconds.max(1e-6)).round(),
            latency_ms: Latency::of(&tally.latency),
            retries: tally.retries,
            run_id: None,
            seed: None,
            verified: None,
            differences: Vec::new(),
        }
    }

    /// Writes the report as one line.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)?;
        Ok(())
    }
}
