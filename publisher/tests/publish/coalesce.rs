//! Tests of how the publisher combines requests into entries.

use std::collections::{BTreeSet, HashSet};

use futures::future::join_all;
use serde_json::json;

use crate::fixture::{Fixture, event};

#[tokio::test]
async fn requests_that_arrive_while_appends_are_in_flight_share_entries() {
    let fixture = Fixture::start(&[]).await;
    fixture.client.publish(&event("before")).await;
    fixture.freeze_redis().await;
    let requests: Vec<_> = (0..200).map(|n| fixture.publish(None, event(n))).collect();
    fixture.waiting(200).await;
    fixture.thaw_redis();
    for answer in join_all(requests).await {
        answer.unwrap().assert_status(202);
    }
    let entries = fixture.entries(0).await;
    // The first entry, four that were in flight when Redis was frozen, and one with all other requests.
    assert!(entries.len() <= 6, "{} entries", entries.len());
    let sizes: Vec<_> = entries.iter().map(|entry| entry.requests.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 201, "{sizes:?}");
    let ids: HashSet<_> = fixture.event_ids().await.into_iter().collect();
    assert_eq!(ids.len(), 201);
    assert_eq!(fixture.metric("sluice_publish_entries_total").await, entries.len() as f64);
    assert_eq!(fixture.metric("sluice_publish_events_total").await, 201.0);
}

#[tokio::test]
async fn a_reused_key_is_refused_and_its_companions_are_stored() {
    let fixture = Fixture::start(&[]).await;
    fixture.client.publish_keyed("k", &event("first")).await.assert_status(202);
    fixture.freeze_redis().await;
    let mut accepted = Vec::new();
    for n in 0..4 {
        accepted.push(fixture.publish(None, event(format!("in-flight-{n}"))));
        fixture.waiting(n + 1).await;
    }
    // The following requests share the next entry, which is refused as a whole and packed again.
    for n in 0..3 {
        accepted.push(fixture.publish(None, event(format!("unkeyed-{n}"))));
    }
    accepted.push(fixture.publish(Some("other"), event("keyed")));
    let refused = fixture.publish(Some("k"), event("second"));
    fixture.waiting(9).await;
    fixture.thaw_redis();
    refused.await.unwrap().assert_problem(422, "idempotency_key_reused");
    for answer in join_all(accepted).await {
        answer.unwrap().assert_status(202);
    }
    let ids: BTreeSet<_> = fixture.event_ids().await.into_iter().collect();
    let expected = [
        "first",
        "in-flight-0",
        "in-flight-1",
        "in-flight-2",
        "in-flight-3",
        "keyed",
        "unkeyed-0",
        "unkeyed-1",
        "unkeyed-2",
    ];
    assert_eq!(ids.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(fixture.entries(0).await.len(), 6, "the first, four in flight, and one that was packed again");
}

#[tokio::test]
async fn one_key_with_two_bodies_at_once_accepts_exactly_one() {
    let fixture = Fixture::start(&[]).await;
    for round in 0..20 {
        let key = format!("key-{round}");
        let bodies = ["a", "b", "c"].map(|body| fixture.publish(Some(&key), event(format!("{round}-{body}"))));
        let answers: Vec<_> = join_all(bodies).await.into_iter().map(|answer| answer.unwrap()).collect();
        let accepted = answers.iter().filter(|answer| answer.status == 202).count();
        assert_eq!(accepted, 1, "round {round}: {answers:?}");
        for refused in answers.iter().filter(|answer| answer.status != 202) {
            refused.assert_problem(422, "idempotency_key_reused");
        }
    }
    assert_eq!(fixture.event_ids().await.len(), 20);
}

#[tokio::test]
async fn a_repeated_request_is_appended_again_under_the_same_receipt() {
    let fixture = Fixture::start(&[]).await;
    for _ in 0..3 {
        fixture.client.publish_keyed("again", &event("1")).await.assert_status(202);
    }
    fixture.client.publish(&event("1")).await;
    let entries = fixture.entries(0).await;
    let receipts: Vec<_> = entries.iter().map(|entry| entry.requests[0].1).collect();
    assert!(receipts[0].is_some(), "{receipts:?}");
    assert_eq!(receipts[..3], [receipts[0]; 3]);
    assert_eq!(receipts[3], None, "a request without a key has no receipt");
}

#[tokio::test]
async fn keyed_requests_go_to_the_stream_of_their_key_and_others_anywhere() {
    let fixture = Fixture::start(&["--streams", "4"]).await;
    for n in 0..60 {
        fixture.client.publish(&event(n)).await;
    }
    for stream in 0..4 {
        // Each request takes a random stream: any of the four stays empty in about one of eight million runs.
        assert!(!fixture.entries(stream).await.is_empty(), "stream {stream} is empty");
    }
    for _ in 0..8 {
        fixture.client.publish_keyed("mine", &event("keyed")).await.assert_status(202);
    }
    let mut streams = Vec::new();
    for stream in 0..4 {
        let keyed = fixture.entries(stream).await.iter().filter(|entry| entry.requests[0].1.is_some()).count();
        streams.push(keyed);
    }
    streams.sort_unstable();
    assert_eq!(streams, [0, 0, 0, 8]);
}

#[tokio::test]
async fn a_request_id_that_is_a_uuid_travels_with_its_events() {
    let fixture = Fixture::start(&[]).await;
    let id = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa";
    let body = json!([event("1")]).to_string();
    let request = fixture.client.request("POST", "/publish").header("content-type", "application/json");
    let request = request.header("x-request-id", id).body(body);
    let answer = fixture.client.send(request).await.assert_status(202);
    assert_eq!(answer.headers["x-request-id"], id);
    assert_eq!(fixture.entries(0).await[0].requests[0].0.to_string(), id);
}

#[tokio::test]
async fn a_large_body_is_an_entry_of_its_own() {
    let fixture = Fixture::start(&[]).await;
    let large: Vec<_> = (0..5_000).map(event).collect();
    assert_eq!(fixture.client.publish(&json!(large)).await, 5_000);
    let entries = fixture.entries(0).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].requests[0].2.len(), 5_000);
}
