//! CloudEvents: published in each of their modes, stored whole, and read back.

use serde_json::{Value, json};
use sluice_tests::{Answer, Backend, Client, Setup, System};

use crate::common::{events, list};

on_both_backends!(
    a_cloud_event_is_stored_whole_in_each_mode_and_read_back_as_it_was_sent,
    data_that_is_not_json_is_kept_to_the_byte,
    events_of_all_forms_are_read_as_cloud_events_in_pages,
    cloud_events_are_unique_by_source_and_id,
    cloud_events_are_refused_or_accepted_with_a_warning_without_their_source_in_the_key,
    the_topic_of_a_cloud_event_follows_from_a_template,
    a_bad_cloud_event_is_named_and_the_others_of_its_batch_can_be_accepted,
    a_repeated_binary_request_counts_once,
);

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

async fn system(backend: Backend) -> System {
    Setup::new(backend).env("SLUICE_DEDUP_FIELDS", "topic,event_id,source").start().await
}

fn cloud_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.created"})
}

async fn publish(client: &Client, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = client.request("POST", "/publish").header("Content-Type", kind).body(body.into());
    client.send(request).await
}

/// Publishes a CloudEvent in the binary mode.
async fn publish_binary(client: &Client, attributes: &[(&str, &str)], kind: &str, body: &[u8]) -> Answer {
    let mut request = client.request("POST", "/publish").header("Content-Type", kind).body(body.to_vec());
    for (name, value) in attributes {
        request = request.header(format!("ce-{name}"), *value);
    }
    client.send(request).await
}

/// Returns what is read with this media type, as text.
async fn read(client: &Client, path: &str, kind: &str) -> Answer {
    let answer = client.send(client.request("GET", path).header("Accept", kind)).await.assert_status(200);
    assert_eq!(answer.content_type(), kind);
    answer
}

async fn a_cloud_event_is_stored_whole_in_each_mode_and_read_back_as_it_was_sent(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let sent = r#"{"specversion":"1.0", "id":"1","source":"/shop","type":"order.created","tenant":"a","n":7,
        "time":"2026-01-31T13:00:00+01:00","data":{"price": 1.50}}"#;
    let accepted = publish(client, ONE, sent).await.assert_status(202).json();
    assert_eq!(accepted, json!({"status": "accepted", "count": 1}));
    let batch = json!([cloud_event("2"), cloud_event("3")]).to_string();
    assert_eq!(publish(client, BATCH, batch).await.assert_status(202).json()["count"], 2);
    let attributes =
        [("specversion", "1.0"), ("id", "4"), ("source", "/shop"), ("type", "order.created"), ("tenant", "%C3%A4")];
    publish_binary(client, &attributes, "application/json", br#"{"price": 2.50}"#).await.assert_status(202);
    assert_eq!(publish(client, BATCH, "[]").await.assert_status(202).json()["count"], 0);
    system.wait_until_stored(4).await;

    let stored = client.get_json("/events/order.created/1").await;
    assert_eq!((&stored["timestamp"], &stored["source"]), (&"2026-01-31T12:00:00Z".into(), &"/shop".into()));
    assert_eq!(stored["payload"]["data"], json!({"price": 1.50}), "{stored}");
    assert_eq!(read(client, "/events/order.created/1", ONE).await.text, sent);
    assert_eq!(read(client, "/events/order.created/2", ONE).await.json(), cloud_event("2"));
    let binary = read(client, "/events/order.created/4", ONE).await;
    assert_eq!(binary.json()["tenant"], "ä");
    assert!(binary.text.contains(r#""datacontenttype":"application/json","data":{"price": 2.50}"#), "{}", binary.text);
}

async fn data_that_is_not_json_is_kept_to_the_byte(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let attributes = |id| [("specversion", "1.0"), ("id", id), ("source", "/s"), ("type", "t")];
    publish_binary(client, &attributes("text"), "text/plain", "a\"ä\n".as_bytes()).await.assert_status(202);
    publish_binary(client, &attributes("bytes"), "image/png", b"\x00\xff").await.assert_status(202);
    publish_binary(client, &attributes("none"), "application/json", b"").await.assert_status(202);
    system.wait_until_stored(3).await;
    let text = read(client, "/events/t/text", ONE).await.json();
    assert_eq!((&text["data"], &text["datacontenttype"]), (&"a\"ä\n".into(), &"text/plain".into()));
    let bytes = read(client, "/events/t/bytes", ONE).await.json();
    assert_eq!((&bytes["data_base64"], &bytes["data"]), (&"AP8=".into(), &Value::Null));
    assert!(read(client, "/events/t/none", ONE).await.json().get("data").is_none());
    let refused = publish_binary(client, &attributes("x"), "application/json", br#"1,"id":"y""#).await;
    let detail = refused.assert_problem(400, "malformed_json")["detail"].clone();
    assert!(detail.as_str().is_some_and(|detail| detail.contains("the data is not JSON")), "{detail}");
}

async fn events_of_all_forms_are_read_as_cloud_events_in_pages(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let plain =
        json!({"topic": "t", "event_id": "p", "source": "a b", "payload": [1], "timestamp": "2026-01-31T12:00:00Z"});
    system.publish_and_wait(0, &plain).await;
    publish(client, ONE, cloud_event("c").to_string()).await.assert_status(202);
    system.wait_until_stored(2).await;
    let made = json!({
        "specversion": "1.0", "id": "p", "source": "a%20b", "type": "t", "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json", "data": [1],
    });
    let page = read(client, "/events?limit=1", BATCH).await;
    assert_eq!(page.json(), json!([cloud_event("c")]));
    let cursor = page.headers["x-next-cursor"].to_str().unwrap();
    let page = read(client, &format!("/events?limit=1&cursor={cursor}"), BATCH).await;
    assert_eq!(page.json(), json!([made]));
    assert_eq!(read(client, "/events?topic=none", BATCH).await.json(), json!([]));
    let feed = read(client, "/events?order=asc", BATCH).await;
    assert_eq!(feed.json(), json!([made, cloud_event("c")]));
    assert_eq!(feed.headers["x-more"], "false");
    assert_eq!(read(client, "/events/t/p?all=true", BATCH).await.json(), json!([made]));
}

async fn cloud_events_are_unique_by_source_and_id(backend: Backend) {
    let system = system(backend).await;
    let mut other = cloud_event("1");
    other["source"] = "/other".into();
    let batch = json!([cloud_event("1"), other, cloud_event("1")]).to_string();
    publish(&system.client, BATCH, batch).await.assert_status(202);
    let snapshot = system.wait_until_stored(3).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 1, 2));
}

async fn cloud_events_are_refused_or_accepted_with_a_warning_without_their_source_in_the_key(backend: Backend) {
    let refusing = Setup::new(backend).start().await;
    for (kind, body) in [(ONE, cloud_event("1").to_string()), (BATCH, "[]".into())] {
        let detail =
            publish(&refusing.client, kind, body).await.assert_problem(415, "unsupported_media_type")["detail"].clone();
        assert!(detail.as_str().is_some_and(|detail| detail.contains("--cloudevents-without-source")), "{detail}");
    }
    let attributes = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];
    let binary = publish_binary(&refusing.client, &attributes, "application/json", b"1").await;
    binary.assert_problem(415, "unsupported_media_type");
    refusing.publish_and_wait(0, &events("t", 0..1)).await;

    let warning = Setup::new(backend).publisher("--cloudevents-without-source", "warn").start().await;
    let answer = publish(&warning.client, ONE, cloud_event("1").to_string()).await.assert_status(202).json();
    assert!(answer["warning"].as_str().is_some_and(|text| text.contains("source")), "{answer}");
    warning.wait_until_stored(1).await;
}

async fn the_topic_of_a_cloud_event_follows_from_a_template(backend: Backend) {
    let system = Setup::new(backend).publisher("--cloudevents-topic", "{tenant}.{type}.{source}").start().await;
    let mut event = cloud_event("1");
    let missing = publish(&system.client, ONE, event.to_string()).await.assert_problem(422, "invalid_event");
    assert_eq!(missing["detail"], "events[0]: the attribute `tenant` is missing, and the topic contains it");
    event["tenant"] = "a".into();
    publish(&system.client, ONE, event.to_string()).await.assert_status(202);
    system.wait_until_stored(1).await;
    let stored = list(&system.client, "").await;
    assert_eq!(stored[0]["topic"], "a.order.created./shop");
}

async fn a_bad_cloud_event_is_named_and_the_others_of_its_batch_can_be_accepted(backend: Backend) {
    let system = system(backend).await;
    let batch = json!([cloud_event("1"), {"specversion": "1.0", "id": "2"}, cloud_event("3"), {"specversion": "2.0"}]);
    let problem = publish(&system.client, BATCH, batch.to_string()).await.assert_problem(422, "invalid_event");
    assert_eq!(
        (&problem["index"], &problem["field"], &problem["error_count"]),
        (&1.into(), &"source".into(), &2.into())
    );
    let client = &system.client;
    let request = client.request("POST", "/publish?partial=true").header("Content-Type", BATCH).body(batch.to_string());
    let partial = client.send(request).await.assert_status(202).json();
    assert_eq!((&partial["count"], &partial["rejected"]), (&2.into(), &2.into()), "{partial}");
    let snapshot = system.wait_until_stored(2).await;
    assert_eq!(snapshot.rows, 2);
}

async fn a_repeated_binary_request_counts_once(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let send = |order: [usize; 4], data: &'static str| async move {
        let attributes = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let request = client.request("POST", "/publish").header("Idempotency-Key", "k").body(data);
        let request = order.iter().fold(request, |request, n| request.header(attributes[*n].0, attributes[*n].1));
        client.send(request).await
    };
    send([0, 1, 2, 3], "1").await.assert_status(202);
    send([3, 1, 0, 2], "1").await.assert_status(202);
    send([0, 1, 2, 3], "2").await.assert_problem(422, "idempotency_key_reused");
    let snapshot = system.wait_until_stored(1).await;
    assert_eq!((snapshot.unique, snapshot.duplicates), (1, 0));
}
