//! Accepted requests, and that their events are stored unchanged.

use serde_json::{Value, json};
use sluice_tests::{Backend, Setup};

use crate::common::{events, ids, list, system};

on_both_backends!(
    one_event_is_stored_with_all_its_fields,
    an_array_without_topics_goes_to_topic_default,
    a_batch_object_is_an_array_in_an_envelope,
    a_batch_with_one_invalid_event_stores_nothing_of_it,
    a_batch_of_10_000_events_is_stored_whole,
    a_large_payload_is_kept_as_given,
    payloads_of_every_kind_are_kept_to_the_byte,
    times_of_any_offset_are_stored_in_utc,
    an_event_without_a_time_gets_the_present_one,
    a_time_beyond_the_allowed_range_is_refused_with_its_request,
    a_time_beyond_the_allowed_range_becomes_that_of_the_arrival,
    json_is_taken_with_any_form_of_its_content_type,
    ids_and_topics_of_any_characters_can_be_asked_for,
);

async fn one_event_is_stored_with_all_its_fields(backend: Backend) {
    let system = system(backend).await;
    let sent = json!({
        "topic": "orders", "event_id": "o-1", "timestamp": "2026-01-31T12:00:00Z",
        "source": "shop", "payload": {"total": 12, "items": ["a", "b"]},
    });
    let snapshot = system.publish_and_wait(0, &sent).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows), (1, 1, 1));

    let stored = system.client.get_json("/events/orders/o-1").await;
    for field in ["topic", "event_id", "timestamp", "source", "payload"] {
        assert_eq!(stored[field], sent[field], "{field} of {stored}");
    }
    assert!(stored["received_at"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')), "{stored}");
}

async fn an_array_without_topics_goes_to_topic_default(backend: Backend) {
    let system = system(backend).await;
    let body = json!([{"id": "evt-1", "payload": {"value": 100}}, {"id": "evt-2", "payload": {"value": 200}}]);
    let answer = system.client.publish_raw(body.to_string()).await.assert_status(202);
    assert_eq!(answer.json(), json!({"status": "accepted", "count": 2}));

    system.wait_until_stored(2).await;
    let stored = list(&system.client, "?topic=default").await;
    assert_eq!(ids(&stored), ["evt-2", "evt-1"]);
    assert_eq!(stored[0]["payload"], json!({"value": 200}));
    assert_eq!(stored[0]["source"], Value::Null);
}

async fn a_batch_object_is_an_array_in_an_envelope(backend: Backend) {
    let system = system(backend).await;
    let snapshot = system.publish_and_wait(0, &json!({"events": events("a", 0..3)})).await;
    assert_eq!(snapshot.rows, 3);
}

async fn a_batch_with_one_invalid_event_stores_nothing_of_it(backend: Backend) {
    let system = system(backend).await;
    let mut batch = events("batch", 0..50);
    batch[37]["event_id"] = json!("  ");
    let problem = system.client.publish_raw(batch.to_string()).await.assert_problem(422, "invalid_event");
    assert_eq!((&problem["index"], &problem["field"]), (&json!(37), &json!("event_id")));

    // The next event arrives behind the refused batch, so the batch would be stored by now.
    let snapshot = system.publish_and_wait(0, &events("next", 0..1)).await;
    assert_eq!((snapshot.received, snapshot.rows), (1, 1));
    assert_eq!(ids(&list(&system.client, "?topic=batch").await), [""; 0]);

    batch[37]["event_id"] = json!("evt-37");
    let snapshot = system.publish_and_wait(1, &batch).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows), (51, 51, 51), "the corrected batch");
}

async fn a_batch_of_10_000_events_is_stored_whole(backend: Backend) {
    let system = system(backend).await;
    let snapshot = system.publish_and_wait(0, &events("large", 0..10_000)).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.rows), (10_000, 10_000, 10_000));
}

async fn a_large_payload_is_kept_as_given(backend: Backend) {
    let system = system(backend).await;
    let text = "sluice ünïcødé ".repeat(13_000);
    let sent = json!({"topic": "large", "event_id": "1", "payload": {"text": text}});
    system.publish_and_wait(0, &sent).await;
    let stored = system.client.get_json("/events/large/1").await;
    assert!(stored["payload"] == sent["payload"], "a payload of {} bytes changed", text.len());
}

async fn payloads_of_every_kind_are_kept_to_the_byte(backend: Backend) {
    let system = system(backend).await;
    let digits = "1234567890".repeat(40);
    let payloads = [
        "null",
        "true",
        "0",
        "-0.0",
        "1.50",
        "1E400",
        "123456789012345678901234567890.10",
        &digits,
        r#""""#,
        r#""\ud83d\ude00 \"quoted\" \\ \/ \n""#,
        "\"ünïcødé 😀\"",
        "[]",
        "{}",
        r#"[1, [2, [3]],{"b":1,"a":2}]"#,
        r#"{"z":1,"a":{"z":[],"a":null},"":0}"#,
    ];
    let body: Vec<_> = payloads
        .iter()
        .enumerate()
        .map(|(n, payload)| format!(r#"{{"topic":"kinds","event_id":"{n}","payload":{payload}}}"#))
        .collect();
    system.client.publish_raw(format!("[{}]", body.join(","))).await.assert_status(202);
    system.wait_until_stored(payloads.len() as u64).await;

    let stored = system.reader().await.rows().await.unwrap();
    for (n, payload) in payloads.iter().enumerate() {
        let row = stored.iter().find(|(_, id, _)| *id == n.to_string()).expect("the event is stored");
        assert_eq!(row.2, *payload, "in the database");
        let answer = system.client.get(&format!("/events/kinds/{n}")).await.assert_status(200);
        assert!(answer.text.contains(&format!("\"payload\":{payload}")), "{payload} in {}", answer.text);
    }
}

async fn times_of_any_offset_are_stored_in_utc(backend: Backend) {
    let system = system(backend).await;
    let times = [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
        ("2026-01-31T12:00:00.123456-05:30", "2026-01-31T17:30:00.123456Z"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00:00", "2026-01-31T12:00:00Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
    ];
    let body: Value = times
        .iter()
        .enumerate()
        .map(|(n, (given, _))| json!({"topic": "times", "id": n.to_string(), "timestamp": given, "payload": n}))
        .collect();
    system.publish_and_wait(0, &body).await;
    for (n, (given, stored)) in times.iter().enumerate() {
        let event = system.client.get_json(&format!("/events/times/{n}")).await;
        assert_eq!(event["timestamp"], *stored, "given as {given}");
    }
}

async fn an_event_without_a_time_gets_the_present_one(backend: Backend) {
    let system = system(backend).await;
    system.publish_and_wait(0, &json!({"id": "1", "payload": null})).await;
    let event = system.client.get_json("/events/default/1").await;
    let (time, arrival) = (event["timestamp"].as_str().unwrap(), event["received_at"].as_str().unwrap());
    assert_eq!(time[..13], arrival[..13], "the same hour: {event}");
}

/// Returns the setup of a system that accepts times from the last 30 days to ten minutes ahead.
fn bounded_in_time(backend: Backend, out_of_range: &str) -> Setup {
    let setup = Setup::new(backend).publisher("--max-age", "30d").publisher("--max-future", "10m");
    setup.publisher("--timestamp-out-of-range", out_of_range)
}

/// An event of long ago and one of the far future, between two that have no time.
fn of_other_times() -> Value {
    let mut sent = events("t", 0..4);
    sent[1]["timestamp"] = json!("2001-01-01T00:00:00Z");
    sent[2]["timestamp"] = json!("9999-01-01T00:00:00Z");
    sent
}

async fn a_time_beyond_the_allowed_range_is_refused_with_its_request(backend: Backend) {
    let system = bounded_in_time(backend, "refuse").start().await;
    let mut sent = of_other_times();
    for (index, what) in [(1, "before"), (2, "after")] {
        let problem = system.client.publish_raw(sent.to_string()).await.assert_problem(422, "invalid_event");
        assert_eq!((&problem["index"], &problem["field"]), (&json!(index), &json!("timestamp")));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(&format!("seconds {what} the arrival of the request")), "{problem}");
        sent[index].as_object_mut().unwrap().remove("timestamp");
    }
    assert_eq!(system.publish_and_wait(0, &sent).await.rows, 4, "nothing of the refused requests is stored");
}

async fn a_time_beyond_the_allowed_range_becomes_that_of_the_arrival(backend: Backend) {
    let system = bounded_in_time(backend, "arrival").start().await;
    assert_eq!(system.publish_and_wait(0, &of_other_times()).await.rows, 4);
    let stored = list(&system.client, "?topic=t").await;
    let times: Vec<_> = stored.iter().map(|event| &event["timestamp"]).collect();
    assert!(times.iter().all(|time| *time == &stored[0]["received_at"]), "{stored:?}");
    // Repeated later, with the same times, they are the same events.
    let again = system.publish_and_wait(4, &of_other_times()).await;
    assert_eq!((again.received, again.unique, again.conflicts), (8, 4, 0));
}

async fn json_is_taken_with_any_form_of_its_content_type(backend: Backend) {
    let system = system(backend).await;
    let kinds = ["application/json", "application/json; charset=utf-8", "Application/JSON"];
    for (n, kind) in kinds.into_iter().enumerate() {
        let request = system.client.request("POST", "/publish").header("Content-Type", kind);
        let request = request.body(crate::common::event("t", &n.to_string()).to_string());
        let answer = system.client.send(request).await;
        assert_eq!(answer.status, 202, "{kind:?}: {}", answer.text);
    }
    assert_eq!(system.wait_until_stored(kinds.len() as u64).await.rows, kinds.len() as i64);
}

async fn ids_and_topics_of_any_characters_can_be_asked_for(backend: Backend) {
    let system = system(backend).await;
    let names = [
        ("a/b", "c/d?e#f", "/events/a%2Fb/c%2Fd%3Fe%23f"),
        ("größe", "😀 %", "/events/gr%C3%B6%C3%9Fe/%F0%9F%98%80%20%25"),
    ];
    let body: Value = names.iter().map(|(topic, id, _)| crate::common::event(topic, id)).collect();
    system.publish_and_wait(0, &body).await;
    for (topic, id, path) in names {
        let event = system.client.get_json(path).await;
        assert_eq!((&event["topic"], &event["event_id"]), (&json!(topic), &json!(id)));
    }
    assert_eq!(ids(&list(&system.client, "?topic=a%2Fb").await), ["c/d?e#f"]);
}
