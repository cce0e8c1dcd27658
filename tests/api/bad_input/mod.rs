//! Bad input: each kind is refused with a problem document that has the right status, code, index and field, and
//! none of its events is stored.

mod bodies;
mod connections;
mod requests;

use sluice_tests::{Backend, Setup, System};

use crate::common::{event, ids, list};

on_both_backends!(
    every_malformed_body_is_refused_and_nothing_is_stored,
    every_malformed_request_is_refused_and_nothing_is_stored,
    a_body_that_does_not_arrive_is_refused_and_nothing_is_stored,
    what_is_just_within_the_limits_is_stored,
);

/// Starts a system with limits that small requests can exceed.
async fn limited(backend: Backend) -> System {
    let setup = Setup::new(backend)
        .publisher("--max-body-bytes", "64KiB")
        .publisher("--max-events", "10")
        .publisher("--max-payload-bytes", "1KiB")
        .publisher("--max-payload-depth", "8")
        .publisher("--body-timeout", "1s");
    setup.start().await
}

/// Asserts that the system has stored nothing and still accepts a valid event.
async fn assert_nothing_stored(system: &System) {
    let snapshot = system.publish_and_wait(0, &event("good", "1")).await;
    assert_eq!((snapshot.received, snapshot.rows, snapshot.dead_lettered), (1, 1, 0));
    assert_eq!(ids(&list(&system.client, "").await), ["1"]);
}

async fn every_malformed_body_is_refused_and_nothing_is_stored(backend: Backend) {
    let system = limited(backend).await;
    let table = bodies::table();
    let mut faults = Vec::new();
    for bad in &table {
        let answer = system.client.publish_raw(bad.body.clone()).await;
        let problem = serde_json::from_str::<serde_json::Value>(&answer.text).unwrap_or_default();
        let seen = (answer.status, problem["code"].as_str(), problem["index"].as_u64(), problem["field"].as_str());
        let complete = answer.content_type() == "application/problem+json"
            && problem["status"] == answer.status
            && ["type", "title", "detail"].iter().all(|member| problem[member].is_string());
        if seen != (bad.status, Some(bad.code), bad.index, bad.field) || !complete {
            let expected = (bad.status, bad.code, bad.index, bad.field);
            faults.push(format!("{}: expected {expected:?}, got {} {}", bad.what, answer.status, answer.text));
        }
    }
    assert!(faults.is_empty(), "{} of {} kinds:\n{}", faults.len(), table.len(), faults.join("\n"));
    assert!(table.len() >= 60, "{} kinds", table.len());
    println!("{} kinds of malformed body refused", table.len());
    assert_nothing_stored(&system).await;
}

async fn every_malformed_request_is_refused_and_nothing_is_stored(backend: Backend) {
    let system = limited(backend).await;
    requests::refuse_all(&system.client).await;
    assert_nothing_stored(&system).await;
}

async fn a_body_that_does_not_arrive_is_refused_and_nothing_is_stored(backend: Backend) {
    let system = limited(backend).await;
    connections::refuse_all(&system.base()).await;
    assert_nothing_stored(&system).await;
}

async fn what_is_just_within_the_limits_is_stored(backend: Backend) {
    let system = limited(backend).await;
    for body in bodies::just_within_the_limits() {
        let answer = system.client.publish_raw(body.clone()).await;
        assert_eq!(answer.status, 202, "{} for {}", answer.text, String::from_utf8_lossy(&body));
    }
    assert_eq!(system.wait_until_stored(16).await.rows, 16);
}
