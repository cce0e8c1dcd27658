//! Queries for events.

use serde_json::{Value, json};
use sluice_tests::Backend;

use crate::common::{event, events, ids, list, system};

on_both_backends!(
    after_a_publish_the_list_is_not_empty,
    the_newest_arrival_comes_first,
    limit_bounds_the_list,
    topic_filters_the_list,
    source_filters_the_list,
    since_and_until_filter_by_the_event_s_own_time,
    filters_add_up,
    ndjson_has_an_event_on_each_line,
    one_event_can_be_asked_for_by_topic_and_id,
    an_event_that_is_not_stored_is_a_404,
);

async fn after_a_publish_the_list_is_not_empty(backend: Backend) {
    let system = system(backend).await;
    let empty = system.client.get_json("/events").await;
    assert_eq!(empty, json!({"events": [], "next_cursor": null}));
    system.publish_and_wait(0, &event("t", "1")).await;
    let page = system.client.get_json("/events").await;
    assert_eq!(page["next_cursor"], Value::Null, "nothing follows: {page}");
    let listed = page["events"].as_array().unwrap();
    assert_eq!(ids(listed), ["1"]);
    for field in ["topic", "event_id", "timestamp", "source", "payload", "received_at"] {
        assert!(listed[0].get(field).is_some(), "{field} is missing: {}", listed[0]);
    }
}

async fn the_newest_arrival_comes_first(backend: Backend) {
    let system = system(backend).await;
    // Events are returned in the order of their arrival, also within a request, whatever their timestamps are.
    let at = |id: &str, time: &str| json!({"topic": "t", "event_id": id, "timestamp": time, "payload": 0});
    let first =
        json!([at("a", "2030-01-01T00:00:00Z"), at("b", "2020-01-01T00:00:00Z"), at("c", "2025-01-01T00:00:00Z")]);
    system.publish_and_wait(0, &first).await;
    system.publish_and_wait(3, &at("d", "1990-01-01T00:00:00Z")).await;
    assert_eq!(ids(&list(&system.client, "").await), ["d", "c", "b", "a"]);
}

async fn limit_bounds_the_list(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..150)).await;
    assert_eq!(list(&system.client, "?limit=1").await.len(), 1);
    assert_eq!(list(&system.client, "?limit=149").await.len(), 149);
    assert_eq!(list(&system.client, "?limit=1000").await.len(), 150);
    assert_eq!(list(&system.client, "").await.len(), 100, "the default");
    assert_eq!(ids(&list(&system.client, "?limit=2").await), ["evt-149", "evt-148"]);
}

async fn topic_filters_the_list(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &json!([event("a", "1"), event("b", "2"), event("a", "3")])).await;
    assert_eq!(ids(&list(&system.client, "?topic=a").await), ["3", "1"]);
    assert_eq!(ids(&list(&system.client, "?topic=b").await), ["2"]);
    assert_eq!(ids(&list(&system.client, "?topic=none").await), [""; 0]);
}

async fn source_filters_the_list(backend: Backend) {
    let system = system(backend).await;
    let from = |id: &str, source: Value| json!({"topic": "t", "event_id": id, "source": source, "payload": 0});
    system.publish_and_wait(0, &json!([from("1", json!("x")), from("2", json!("y")), from("3", Value::Null)])).await;
    assert_eq!(ids(&list(&system.client, "?source=x").await), ["1"]);
    assert_eq!(ids(&list(&system.client, "?source=z").await), [""; 0]);
}

async fn since_and_until_filter_by_the_event_s_own_time(backend: Backend) {
    let system = system(backend).await;
    let days: Value = (1..=5)
        .map(|day| json!({"id": day.to_string(), "timestamp": format!("2026-01-0{day}T00:00:00Z"), "payload": day}))
        .collect();
    system.publish_and_wait(0, &days).await;
    let since = "since=2026-01-02T00:00:00Z";
    let until = "until=2026-01-04T00:00:00Z";
    assert_eq!(ids(&list(&system.client, &format!("?{since}")).await), ["5", "4", "3", "2"], "since is included");
    assert_eq!(ids(&list(&system.client, &format!("?{until}")).await), ["3", "2", "1"], "until is not included");
    assert_eq!(ids(&list(&system.client, &format!("?{since}&{until}")).await), ["3", "2"]);
    // The same times with an offset. `+` is written as %2B in a query.
    let offset = "?since=2026-01-02T02:00:00%2B02:00&until=2026-01-03T19:00:00-05:00";
    assert_eq!(ids(&list(&system.client, offset).await), ["3", "2"]);
}

async fn filters_add_up(backend: Backend) {
    let system = system(backend).await;
    let make = |topic: &str, id: &str, source: &str, day: u8| {
        json!({"topic": topic, "event_id": id, "source": source, "payload": 0,
               "timestamp": format!("2026-01-0{day}T00:00:00Z")})
    };
    let body = json!([
        make("a", "1", "x", 1),
        make("a", "2", "x", 2),
        make("a", "3", "y", 2),
        make("b", "4", "x", 2),
        make("a", "5", "x", 2),
        make("a", "6", "x", 3),
    ]);
    system.publish_and_wait(0, &body).await;
    let query = "?topic=a&source=x&since=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z";
    assert_eq!(ids(&list(&system.client, query).await), ["5", "2"]);
    assert_eq!(ids(&list(&system.client, &format!("{query}&limit=1")).await), ["5"]);
}

async fn ndjson_has_an_event_on_each_line(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..25)).await;
    let mut seen = Vec::new();
    let mut path = "/events?limit=10".to_owned();
    loop {
        let request = system.client.request("GET", &path).header("Accept", "application/x-ndjson");
        let answer = system.client.send(request).await.assert_status(200);
        assert_eq!(answer.content_type(), "application/x-ndjson");
        for line in answer.text.lines() {
            let event: Value = serde_json::from_str(line).expect("a JSON document on each line");
            seen.push(event["event_id"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = answer.headers.get("X-Next-Cursor") else { break };
        path = format!("/events?limit=10&cursor={}", cursor.to_str().unwrap());
    }
    let expected: Vec<_> = (0..25).rev().map(|n| format!("evt-{n}")).collect();
    assert_eq!(seen, expected);
}

async fn one_event_can_be_asked_for_by_topic_and_id(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &json!([event("a", "1"), event("b", "1")])).await;
    let found = system.client.get_json("/events/b/1").await;
    assert_eq!((&found["topic"], &found["event_id"]), (&json!("b"), &json!("1")));
    let all = system.client.get_json("/events/b/1?all=true").await;
    assert_eq!(all["events"].as_array().map(Vec::len), Some(1), "{all}");
}

async fn an_event_that_is_not_stored_is_a_404(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &event("a", "1")).await;
    for path in ["/events/a/2", "/events/b/1", "/events/b/1?all=true"] {
        system.client.get(path).await.assert_problem(404, "not_found");
    }
}
