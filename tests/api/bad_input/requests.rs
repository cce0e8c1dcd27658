//! Requests with errors outside their body: headers, methods, paths, query parameters.

use reqwest::header::HeaderValue;
use sluice_tests::Client;

const EVENT: &str = r#"{"topic":"bad","id":"1","payload":1}"#;

/// Sends each request, and fails on the first that is not refused with the expected problem.
pub async fn refuse_all(client: &Client) {
    content_types(client).await;
    idempotency_keys(client).await;
    methods(client).await;
    paths(client).await;
    queries(client).await;
}

async fn content_types(client: &Client) {
    for kind in [
        "text/plain",
        "text/json",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/ndjson",
        "application/octet-stream",
        "application/json; charset=iso-8859-1",
        "application/jsonp",
        "json",
        "",
        "*/*",
    ] {
        let request = client.request("POST", "/publish").header("Content-Type", kind).body(EVENT);
        println!("content type {kind:?}");
        client.send(request).await.assert_problem(415, "unsupported_media_type");
    }
    println!("no content type");
    client.send(client.request("POST", "/publish").body(EVENT)).await.assert_problem(415, "unsupported_media_type");
    for coding in ["br", "deflate, gzip"] {
        let request = post(client).header("Content-Encoding", coding).body(EVENT);
        println!("content coding {coding:?}");
        let answer = client.send(request).await;
        answer.assert_problem(415, "unsupported_media_type");
        assert_eq!(answer.headers["accept-encoding"], "gzip, zstd");
    }
    for coding in ["gzip", "zstd"] {
        let request = post(client).header("Content-Encoding", coding).body(EVENT);
        println!("JSON that is declared as {coding}");
        client.send(request).await.assert_problem(400, "malformed_encoding");
    }
}

fn post(client: &Client) -> reqwest::RequestBuilder {
    client.request("POST", "/publish").header("Content-Type", "application/json")
}

async fn idempotency_keys(client: &Client) {
    let long = "k".repeat(256);
    let keys: [&[u8]; 7] = [b"", b" ", b"two words", b"tab\there", "schlüssel".as_bytes(), b"\xff", long.as_bytes()];
    for key in keys {
        let value = HeaderValue::from_bytes(key).expect("bytes that HTTP can carry");
        let request = post(client).header("Idempotency-Key", value).body(EVENT);
        println!("idempotency key {:?}", String::from_utf8_lossy(key));
        client.send(request).await.assert_problem(400, "invalid_idempotency_key");
    }
    let request = post(client).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    println!("two idempotency keys");
    client.send(request.body(EVENT)).await.assert_problem(400, "invalid_idempotency_key");
}

async fn methods(client: &Client) {
    for (method, path) in [
        ("GET", "/publish"),
        ("PUT", "/publish"),
        ("DELETE", "/publish"),
        ("PATCH", "/publish"),
        ("BREW", "/publish"),
        ("POST", "/events"),
        ("DELETE", "/events"),
        ("PUT", "/events/bad/1"),
        ("POST", "/stats"),
        ("PUT", "/topics"),
        ("POST", "/dead-letters"),
        ("GET", "/dead-letters/1"),
        ("GET", "/dead-letters/1/replay"),
        ("POST", "/healthz"),
        ("DELETE", "/metrics"),
    ] {
        println!("{method} {path}");
        let answer = client.send(client.request(method, path).body(EVENT)).await;
        answer.assert_problem(405, "method_not_allowed");
        assert!(answer.headers.contains_key("allow"), "a 405 names the allowed methods: {:?}", answer.headers);
    }
}

async fn paths(client: &Client) {
    for path in ["/nowhere", "/publish/1", "/Publish", "/publish/", "/events/bad", "/events/bad/1/2", "/events/bad/1"] {
        println!("GET {path}");
        client.get(path).await.assert_problem(404, "not_found");
    }
    for path in ["/dead-letters/999/replay", "/dead-letters/none/replay", "/dead-letters/-1/replay", "/publish/all"] {
        println!("POST {path}");
        client.post(path).await.assert_problem(404, "not_found");
    }
}

async fn queries(client: &Client) {
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=1.5",
        "limit=ten",
        "limit=",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "cursor=nonsense",
        "cursor=",
        "cursor=%00",
        "cursor=-1",
        "since=yesterday",
        "since=1700000000",
        "since=",
        "until=2026-02-30T00:00:00Z",
        "since=2026-01-01T00:00:00Z&until=never",
        "topic=%00",
        "topic=%ff",
        "source=a%00b",
        "colour=blue",
    ] {
        println!("GET /events?{query}");
        client.get(&format!("/events?{query}")).await.assert_problem(400, "invalid_query");
    }
    for path in ["/events/bad/1?all=maybe", "/events/bad/1?every=true"] {
        println!("GET {path}");
        client.get(path).await.assert_problem(400, "invalid_query");
    }
}
