//! The methods `HEAD` and `OPTIONS`, and the header `Allow`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use sluice_tests::event_stream::EventStream;
use sluice_tests::{Answer, Backend, Client};

use crate::common::{events, system};

on_both_backends!(
    head_has_the_headers_of_get_and_no_body,
    head_of_a_stream_ends_at_once_and_takes_no_place,
    options_and_a_405_name_the_methods_of_a_path,
    options_of_a_path_that_nothing_serves_is_not_found,
);

/// Every path that has `GET`, and the `Accept` of a request.
const PATHS: [(&str, &str); 20] = [
    ("/events", "*/*"),
    ("/events?limit=2", "application/x-ndjson"),
    ("/events?limit=10000", "application/x-ndjson"),
    ("/events?order=asc&limit=2", "*/*"),
    ("/events?order=asc&limit=2", "application/x-ndjson"),
    ("/events/t/evt-1", "*/*"),
    ("/events/t/evt-1?all=true", "*/*"),
    ("/events?limit=2", "application/cloudevents-batch+json"),
    ("/conflicts", "*/*"),
    ("/topics", "*/*"),
    ("/stats", "*/*"),
    ("/stats/series", "*/*"),
    ("/meters", "*/*"),
    ("/meters/sales", "*/*"),
    ("/meters/sales", "text/csv"),
    ("/dead-letters", "*/*"),
    ("/openapi.json", "*/*"),
    ("/healthz", "*/*"),
    ("/readyz", "*/*"),
    ("/metrics", "*/*"),
];

/// The methods of each path; those of a path with a parameter are those of any value.
const METHODS: [(&str, &str); 18] = [
    ("/publish", "POST, OPTIONS"),
    ("/events", "GET, HEAD, OPTIONS"),
    ("/events/tail", "GET, HEAD, OPTIONS"),
    ("/events/no/such", "GET, HEAD, DELETE, OPTIONS"),
    ("/conflicts", "GET, HEAD, OPTIONS"),
    ("/topics", "GET, HEAD, OPTIONS"),
    ("/stats", "GET, HEAD, OPTIONS"),
    ("/stats/series", "GET, HEAD, OPTIONS"),
    ("/meters", "GET, HEAD, OPTIONS"),
    ("/meters/none", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/meters/query", "POST, OPTIONS"),
    ("/dead-letters", "GET, HEAD, OPTIONS"),
    ("/dead-letters/7", "DELETE, OPTIONS"),
    ("/dead-letters/replay", "POST, OPTIONS"),
    ("/dead-letters/7/replay", "POST, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
    ("/healthz", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"),
];

/// Returns the headers that do not differ between two answers to the same request. Of the length, which depends on times
/// in the body, only whether there is one.
fn comparable(answer: &Answer) -> BTreeMap<&str, &str> {
    let headers = answer.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().expect("ASCII");
        match name.as_str() {
            "date" | "x-request-id" | "transfer-encoding" => None,
            "content-length" => Some(("content-length", "")),
            name => Some((name, value)),
        }
    });
    headers.collect()
}

async fn head_has_the_headers_of_get_and_no_body(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    system.publish_and_wait(0, &events("t", 0..5)).await;
    let meter = client.request("PUT", "/meters/sales").body(json!({"aggregation": "count"}).to_string());
    client.send(meter).await.assert_status(201);
    for (path, accept) in PATHS {
        let get = client.send(client.request("GET", path).header("Accept", accept)).await.assert_status(200);
        let head = client.send(client.request("HEAD", path).header("Accept", accept)).await.assert_status(200);
        assert_eq!(comparable(&head), comparable(&get), "HEAD {path} as {accept}");
        assert!(head.headers.contains_key("x-request-id") && !get.text.is_empty(), "{path} as {accept}");
        assert_eq!(head.text, "", "HEAD {path}");
    }
    for (path, status) in [("/nowhere", 404), ("/events/t/none", 404), ("/events?limit=0", 400), ("/publish", 405)] {
        let [get, head] = ["GET", "HEAD"].map(|method| client.send(client.request(method, path)));
        let (get, head) = (get.await.assert_status(status), head.await.assert_status(status));
        assert_eq!(comparable(&head), comparable(&get), "HEAD {path}");
        assert_eq!(head.headers["content-type"], "application/problem+json", "HEAD {path}");
    }
}

async fn head_of_a_stream_ends_at_once_and_takes_no_place(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(EventStream::open(client, "/events/tail", None).await.expect("a stream"));
    }
    let refused = EventStream::open(client, "/events/tail", None).await.err().expect("the places are taken");
    assert!(refused.starts_with("429"), "{refused}");
    let head = client.send(client.request("HEAD", "/events/tail")).await.assert_status(200);
    assert_eq!(head.headers["content-type"], "text/event-stream");
    assert_eq!(head.headers["cache-control"], "no-store");
    assert_eq!(head.headers["x-accel-buffering"], "no");
    assert!(!head.headers.contains_key("content-length"), "a stream has no length: {:?}", head.headers);
    // On one connection: the next answer would follow the body of the one before, if that had one.
    let http = Client::new(client.base());
    for _ in 0..3 {
        let head = tokio::time::timeout(Duration::from_secs(30), http.send(http.request("HEAD", "/events/tail")));
        head.await.expect("an answer").assert_status(200);
        http.get("/healthz").await.assert_status(200);
    }
    let wrong = client.send(client.request("HEAD", "/events/tail?after=s1")).await;
    assert_eq!(wrong.status, 400);
    drop(open);
}

async fn options_and_a_405_name_the_methods_of_a_path(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    for (path, allow) in METHODS {
        let answer = client.send(client.request("OPTIONS", path)).await.assert_status(204);
        assert_eq!(answer.headers["allow"], allow, "OPTIONS {path}");
        assert_eq!(answer.text, "");
        for header in ["content-length", "content-type"] {
            assert!(!answer.headers.contains_key(header), "OPTIONS {path}: {:?}", answer.headers);
        }
        let answer = client.send(client.request("PATCH", path)).await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], allow, "PATCH {path}");
    }
    let metrics = client.get("/metrics").await.text;
    let counted = r#"sluice_http_requests_total{method="OPTIONS",path="/publish",status="204"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

async fn options_of_a_path_that_nothing_serves_is_not_found(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    for path in ["/nowhere", "/publish/", "/events/t", "/dead-letters/1/2", "/"] {
        client.send(client.request("OPTIONS", path)).await.assert_problem(404, "not_found");
    }
}
