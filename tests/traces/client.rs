//! A client that takes part in traces, and what a program says about the spans that it made.

use serde_json::{Value, json};
use sluice_tests::program::Program;
use sluice_tests::{Answer, Client, System};

/// The place of a client's request in a trace.
#[derive(Debug, Clone)]
pub struct Context {
    /// The id of the trace.
    pub trace: String,
    /// The id of the client's span.
    pub span: String,
    is_sampled: bool,
}

impl Context {
    /// Begins a trace that the client records.
    pub fn sampled() -> Self {
        let trace = format!("{:032x}", rand::random_range(1..=u128::MAX));
        Self { trace, span: format!("{:016x}", rand::random_range(1..=u64::MAX)), is_sampled: true }
    }

    /// Begins a trace that the client does not record.
    pub fn not_sampled() -> Self {
        Self { is_sampled: false, ..Self::sampled() }
    }

    /// Returns the header for a request: W3C Trace Context.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }

    /// Adds the header to a request.
    pub fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.header("traceparent", self.header())
    }

    /// Publishes one event in this trace, which must be accepted.
    pub async fn publish(&self, client: &Client) -> Answer {
        client.send(self.on(publish(client, "/publish"))).await.assert_status(202)
    }
}

/// Returns a request to publish an event of its own.
pub fn publish(client: &Client, path: &str) -> reqwest::RequestBuilder {
    client.request("POST", path).header("content-type", "application/json").body(event().to_string())
}

/// Returns an event that no other request has.
pub fn event() -> Value {
    let id = format!("{:032x}", rand::random::<u128>());
    json!({"topic": "orders", "event_id": id, "payload": {"value": 1}})
}

/// Returns what a program counts for the spans that it made with one result.
pub async fn counted(program: &Program, result: &str) -> u64 {
    let answer = Client::new(&program.base()).get("/metrics").await.assert_status(200);
    let series = format!("sluice_trace_spans_total{{result=\"{result}\"}} ");
    let value = answer.text.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
}

/// Returns the sum of [`counted`] over all results.
pub async fn counted_in_all(program: &Program) -> u64 {
    let mut sum = 0;
    for result in ["exported", "failed", "dropped"] {
        sum += counted(program, result).await;
    }
    sum
}

/// Sends a request that is traced, after which everything that was made earlier has been sent too: a mark in time for
/// tests that expect nothing.
pub async fn mark(system: &System) -> Context {
    let context = Context::sampled();
    system.client.send(context.on(system.client.request("GET", "/stats"))).await.assert_status(200);
    context
}
