//! Which events are duplicates, and which are not.

use serde_json::{Value, json};
use sluice_tests::{Backend, Setup};

use crate::common::{counts, event, events, ids, list, system};

on_both_backends!(
    an_event_sent_twice_is_stored_once,
    duplicates_inside_one_request_are_dropped,
    duplicates_across_requests_are_dropped,
    duplicates_across_replicas_are_dropped,
    masses_of_duplicates_leave_one_row,
    the_same_id_in_different_topics_stays_two_events,
    equal_payloads_under_different_ids_stay_two_events,
    the_id_alone_can_be_the_key,
    with_the_source_in_the_key_all_are_listed,
    each_dropped_duplicate_can_be_found_in_the_log,
    with_the_audit_trail_each_dropped_duplicate_is_a_row,
);

async fn an_event_sent_twice_is_stored_once(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &event("orders", "o-1")).await;
    let snapshot = system.publish_and_wait(1, &event("orders", "o-1")).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 1, 1, 1));
    assert_eq!(snapshot.conflicts, 0, "an equal payload is no conflict");
    assert_eq!(counts(&system.client).await, [2, 1, 1]);
    assert_eq!(list(&system.client, "").await.len(), 1);
}

async fn duplicates_inside_one_request_are_dropped(backend: Backend) {
    let system = system(backend).await;
    let body: Value = ["a", "b", "a", "c", "a", "b"].map(|id| event("t", id)).into();
    let snapshot = system.publish_and_wait(0, &body).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (6, 3, 3, 3));
}

async fn duplicates_across_requests_are_dropped(backend: Backend) {
    let system = system(backend).await;
    let mut sent = 0;
    for start in 0..10 {
        // Each request repeats half of the previous one.
        sent += system.client.publish(&events("t", start * 10..start * 10 + 20)).await;
    }
    let snapshot = system.wait_until_stored(sent).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (200, 110, 90, 110));
}

async fn duplicates_across_replicas_are_dropped(backend: Backend) {
    let system = Setup::new(backend).aggregators(3).start().await;
    let requests = (0..60).map(|_| {
        let client = system.client.clone();
        tokio::spawn(async move { client.publish(&events("t", 0..100)).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    let snapshot = system.wait_until_stored(6_000).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (6_000, 100, 5_900, 100));
}

async fn masses_of_duplicates_leave_one_row(backend: Backend) {
    let system = system(backend).await;
    let body: Value = (0..1_000).map(|_| event("t", "the one")).collect();
    for _ in 0..5 {
        system.client.publish(&body).await;
    }
    let snapshot = system.wait_until_stored(5_000).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (5_000, 1, 4_999, 1));
}

async fn the_same_id_in_different_topics_stays_two_events(backend: Backend) {
    let system = system(backend).await;
    let snapshot = system.publish_and_wait(0, &json!([event("a", "1"), event("b", "1"), event("a", "1")])).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 1, 2));
    let stats = system.client.get_json("/stats").await;
    assert_eq!(stats["topics"]["a"]["duplicate_dropped"], 1, "{stats}");
    assert_eq!(stats["topics"]["b"]["duplicate_dropped"], 0, "{stats}");
}

async fn equal_payloads_under_different_ids_stay_two_events(backend: Backend) {
    let system = system(backend).await;
    let body = json!([{"id": "1", "payload": {"same": true}}, {"id": "2", "payload": {"same": true}}]);
    let snapshot = system.publish_and_wait(0, &body).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 0, 2));
}

async fn the_id_alone_can_be_the_key(backend: Backend) {
    let system = Setup::new(backend).aggregator("--dedup-fields", "event_id").start().await;
    let snapshot = system.publish_and_wait(0, &json!([event("a", "1"), event("b", "1")])).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (1, 1, 1));
    assert_eq!(list(&system.client, "").await[0]["topic"], "a", "the first one stays stored");
}

async fn with_the_source_in_the_key_all_are_listed(backend: Backend) {
    let system = Setup::new(backend).aggregator("--dedup-fields", "topic,event_id,source").start().await;
    let from = |source: Value| json!({"topic": "t", "event_id": "1", "source": source, "payload": {"from": source}});
    let body = json!([from("x".into()), from("y".into()), from(Value::Null), from("x".into())]);
    let snapshot = system.publish_and_wait(0, &body).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (3, 1, 3));

    let first = system.client.get_json("/events/t/1").await;
    assert_eq!(first["source"], "x", "the one that was stored first");
    let all = system.client.get_json("/events/t/1?all=true").await;
    let sources: Vec<_> = all["events"].as_array().expect("a list").iter().map(|e| e["source"].clone()).collect();
    assert_eq!(sources, [json!("x"), json!("y"), Value::Null], "in the order of their arrival");
    assert_eq!(ids(&list(&system.client, "?source=y").await), ["1"]);
}

async fn each_dropped_duplicate_can_be_found_in_the_log(backend: Backend) {
    let system = Setup::new(backend).env("SLUICE_LOG", "info,sluice_store=debug").start().await;
    system.publish_and_wait(0, &json!([event("t", "twice"), event("t", "once"), event("t", "twice")])).await;
    let log = system.aggregators[0].log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("duplicate dropped") && line.contains("\"event_id\":\"twice\""))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
}

async fn with_the_audit_trail_each_dropped_duplicate_is_a_row(backend: Backend) {
    let system = Setup::new(backend).env("SLUICE_AUDIT", "true").start().await;
    let other = json!({"topic": "t", "event_id": "1", "payload": "other"});
    system.publish_and_wait(0, &json!([event("t", "1"), event("t", "2"), event("t", "1"), other])).await;
    system.publish_and_wait(4, &json!([event("t", "2"), event("t", "3")])).await;
    assert_eq!(system.reader().await.audit().await.unwrap(), (3, 1), "(duplicates, conflicts among them)");
}
