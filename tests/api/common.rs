//! Helper functions that the tests share.

use serde_json::{Value, json};
use sluice_tests::{Backend, Client, Setup, System};

/// Returns a system with default settings.
pub async fn system(backend: Backend) -> System {
    Setup::new(backend).start().await
}

/// Returns an event with this id in this topic. Its payload contains the id.
pub fn event(topic: &str, id: &str) -> Value {
    json!({"topic": topic, "event_id": id, "payload": {"id": id}})
}

/// Returns the events `evt-0`, `evt-1`, … of one topic.
pub fn events(topic: &str, numbers: std::ops::Range<u64>) -> Value {
    numbers.map(|n| event(topic, &format!("evt-{n}"))).collect()
}

/// Returns the events of `GET /events` with this query, which must succeed.
pub async fn list(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get_json(&format!("/events{query}")).await;
    page["events"].as_array().unwrap_or_else(|| panic!("no list of events: {page}")).clone()
}

/// Returns the ids of events, in their order.
pub fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_id"].as_str().expect("an event_id")).collect()
}

/// Returns the counts of `/stats`: received, unique, duplicates.
pub async fn counts(client: &Client) -> [u64; 3] {
    let stats = client.get_json("/stats").await;
    ["received", "unique_processed", "duplicate_dropped"]
        .map(|name| stats[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {stats}")))
}
