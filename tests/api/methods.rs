//! The methods `HEAD` and `OPTIONS`, and the header `Allow`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use sluice_tests::event_stream::EventStream;
use sluice_tests::{Answer, Backend, Client, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{events, system};

on_both_backends!(
    head_has_the_headers_of_get_and_no_body,
    head_of_a_stream_ends_at_once_and_takes_no_place,
    options_and_a_405_name_the_methods_of_a_path,
    options_of_a_path_that_nothing_serves_is_not_found,
    the_methods_of_each_path_are_those_of_the_openapi_document,
    what_is_refused_is_refused_as_the_openapi_document_says,
);

/// Every path that has `GET`, and the `Accept` of a request.
const PATHS: [(&str, &str); 25] = [
    ("/events?topic=large", "*/*"),
    ("/events?topic=large", "application/x-ndjson"),
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
    ("/", "*/*"),
    ("/ui/app.js", "*/*"),
    ("/overview", "*/*"),
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
const METHODS: [(&str, &str); 22] = [
    ("/publish", "POST, OPTIONS"),
    ("/events", "GET, HEAD, OPTIONS"),
    ("/events/tail", "GET, HEAD, OPTIONS"),
    ("/events/no/such", "GET, HEAD, DELETE, OPTIONS"),
    ("/conflicts", "GET, HEAD, OPTIONS"),
    ("/outcomes/7", "GET, HEAD, OPTIONS"),
    ("/topics", "GET, HEAD, OPTIONS"),
    ("/", "GET, HEAD, OPTIONS"),
    ("/ui/app.js", "GET, HEAD, OPTIONS"),
    ("/overview", "GET, HEAD, OPTIONS"),
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
    // A list that is sent in pieces, and has no length.
    let large = |n| json!({"topic": "large", "event_id": format!("{n}"), "payload": "a".repeat(100_000)});
    system.publish_and_wait(5, &json!([large(1), large(2), large(3)])).await;
    let list = client.get("/events?topic=large").await;
    assert!(!list.headers.contains_key("content-length"), "{:?}", list.headers);
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
    // Nobody waits for this outcome, and GET would wait for it.
    let head = tokio::time::timeout(Duration::from_secs(5), client.send(client.request("HEAD", "/outcomes/7")));
    head.await.expect("an answer at once").assert_status(204);
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
    for path in ["/nowhere", "/publish/", "/events/t", "/dead-letters/1/2", "/ui/"] {
        client.send(client.request("OPTIONS", path)).await.assert_problem(404, "not_found");
    }
}

async fn the_methods_of_each_path_are_those_of_the_openapi_document(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let document = client.get_json("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{} paths", paths.len());
    for (path, operations) in paths {
        let path = path
            .replace("{topic}", "t")
            .replace("{event_id}", "1")
            .replace("{asset}", "app.js")
            .replace("{name}", "sales")
            .replace("{id}", "7")
            .replace("{receipt}", "7");
        let answer = client.send(client.request("OPTIONS", &path)).await.assert_status(204);
        let allowed: BTreeSet<_> = answer.headers["allow"].to_str().expect("ASCII").split(", ").collect();
        let documented = operations.as_object().expect("operations").keys().map(|method| method.to_uppercase());
        let mut documented: BTreeSet<_> = documented.chain(["OPTIONS".to_owned()]).collect();
        if documented.contains("GET") {
            documented.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, documented.iter().map(String::as_str).collect(), "{path}");
    }
}

/// Requests that are refused, each by the path of its operation, and as it is sent.
const REFUSED: [(&str, &str, &str, &str); 14] = [
    ("post", "/publish", "/publish", "{"),
    ("post", "/publish", "/publish", r#"{"event_id":" ","payload":1}"#),
    ("post", "/publish", "/publish?partial=maybe", "{}"),
    ("get", "/events", "/events?limit=0", ""),
    ("get", "/events/tail", "/events/tail?after=s1", ""),
    ("get", "/events/{topic}/{event_id}", "/events/t/none", ""),
    ("delete", "/events/{topic}/{event_id}", "/events/t/none", ""),
    ("get", "/stats", "/stats?topics=10001", ""),
    ("get", "/stats/series", "/stats/series?tz=Nowhere", ""),
    ("put", "/meters/{name}", "/meters/sales", r#"{"aggregation":"sum"}"#),
    ("get", "/meters/{name}", "/meters/none", ""),
    ("post", "/meters/query", "/meters/query", "[]"),
    ("delete", "/dead-letters/{id}", "/dead-letters/7", ""),
    ("post", "/dead-letters/replay", "/dead-letters/replay?dry_run=maybe", ""),
];

async fn what_is_refused_is_refused_as_the_openapi_document_says(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let document = client.get_json("/openapi.json").await;
    let responses = |path: &str, method: &str, status: u16| {
        let response = document["paths"][path][method]["responses"][status.to_string()].clone();
        assert!(response.is_object(), "{method} {path}: {status} is not in the document");
        response
    };
    for (method, path, sent, body) in REFUSED {
        let request = client.request(&method.to_uppercase(), sent).header("Content-Type", "application/json");
        let answer = client.send(request.body(body)).await;
        let code = answer.json()["code"].as_str().expect("a code").to_owned();
        let response = responses(path, method, answer.status);
        let examples = &response["content"]["application/problem+json"]["examples"];
        assert!(examples[&code].is_object(), "{method} {sent}: {} {code} is not in {examples}", answer.status);
        let example = examples[&code]["$ref"].as_str().expect("a reference").trim_start_matches('#');
        let example = document.pointer(example).expect("the example");
        assert_eq!((&example["value"]["status"], &example["value"]["code"]), (&json!(answer.status), &json!(code)));
        for header in response["headers"].as_object().expect("headers").keys() {
            let definition = &document["components"]["headers"][header];
            let is_there = answer.headers.contains_key(header.as_str());
            assert!(is_there || definition["required"] == false, "{method} {sent}: no {header}");
        }
    }
    // Heads that are refused before anything else is done.
    let path = format!("GET /stats?{} HTTP/1.1\r\n", "a".repeat(70_000));
    let header = format!("GET /stats HTTP/1.1\r\nX-Long: {}\r\n", "a".repeat(300_000));
    for (status, head) in [(414, path), (431, header)] {
        responses("/stats", "get", status);
        assert_eq!(status_of(client.base(), &format!("{head}Host: sluice\r\n\r\n")).await, status);
    }
}

/// Sends the head of a request, and returns the status of the answer.
async fn status_of(base: &str, head: &str) -> u16 {
    let mut connection = raw::connect(base).await;
    connection.write_all(head.as_bytes()).await.expect("the server reads");
    connection.flush().await.expect("the server reads");
    let mut line = [0; "HTTP/1.1 200".len()];
    connection.read_exact(&mut line).await.expect("an answer");
    String::from_utf8_lossy(&line).rsplit(' ').next().and_then(|status| status.parse().ok()).expect("a status")
}
