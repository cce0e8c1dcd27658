//! `standalone --demo`: publishes events of an invented shop to itself, so that whoever tries it out sees something. They take
//! the way of every other event, from the handler of `POST /publish` on.

use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use sluice_event::Timestamp;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// All topics begin with it, so that these events can be told from others.
const PREFIX: &str = "demo.";
const TOPICS: [&str; 8] = ["orders", "payments", "carts", "visits", "searches", "stock.eu", "stock.us", "returns"];
const SOURCES: [&str; 4] = ["web", "app", "till", "partner"];
const EVERY: Duration = Duration::from_millis(200);
/// The mean of events in a step, and how far it goes up and down within [`PERIOD`].
const EVENTS: f64 = 8.0;
const SWING: f64 = 5.0;
const PERIOD: Duration = Duration::from_secs(90);
/// One of so many steps sends the events of the step before it again.
const REPEATED: u64 = 5;
/// One of so many steps sends an event whose id is stored with another payload.
const CONFLICTING: u64 = 300;

/// Puts meters, and publishes until `stop`.
pub(crate) async fn run(router: Router, stop: CancellationToken) {
    tracing::info!("the demo publishes events whose topics begin with {PREFIX}");
    let sum = json!({"topics": [topic("orders")], "aggregation": "sum", "value": "/amount", "group_by": ["source"]});
    send(&router, Method::PUT, "/meters/demo-revenue", &sum).await;
    let customers = json!({"topics": [topic("*")], "aggregation": "unique", "value": "/customer"});
    send(&router, Method::PUT, "/meters/demo-customers", &customers).await;
    let began = Instant::now();
    // Ids differ from those of an earlier run.
    let run = Timestamp::now().as_micros() / 1_000_000;
    let (mut number, mut before) = (0, Vec::new());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for step in 1_u64.. {
        if stop.run_until_cancelled(ticks.tick()).await.is_none() {
            return;
        }
        let swing = (TAU * began.elapsed().as_secs_f64() / PERIOD.as_secs_f64()).sin();
        let count = (EVENTS + SWING * swing).round() as u64;
        let mut events: Vec<_> = (number..number + count).map(|number| event(run, number)).collect();
        number += count;
        let sent = events.clone();
        if step.is_multiple_of(REPEATED) {
            events.append(&mut before);
        }
        if step.is_multiple_of(CONFLICTING) {
            let mut other = event(run, 0);
            other["payload"] = json!({"customer": 0, "amount": step});
            events.push(other);
        }
        send(&router, Method::POST, "/publish", &Value::Array(events)).await;
        before = sent;
    }
}

fn topic(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn event(run: i64, number: u64) -> Value {
    let name = TOPICS[(number * 5 % TOPICS.len() as u64) as usize];
    let amount = (number * 37 % 900) as f64 + 0.5;
    json!({
        "topic": topic(name),
        "event_id": format!("{name}-{run}-{number}"),
        "source": SOURCES[(number % SOURCES.len() as u64) as usize],
        "payload": {"customer": number * number % 97, "amount": amount, "currency": "EUR"},
    })
}

/// Sends a request to the handlers of this process.
async fn send(router: &Router, method: Method, path: &str, body: &Value) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let Ok(request) = request.body(Body::from(body.to_string())) else { return };
    // A router never fails.
    let Ok(response) = router.clone().oneshot(request).await;
    if !response.status().is_success() {
        tracing::warn!(path, status = response.status().as_u16(), "a request of the demo was refused");
    }
}
