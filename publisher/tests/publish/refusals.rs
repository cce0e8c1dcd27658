//! Every refusal has its own status and code, and no event of a refused request is stored.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, event};

/// The beginning of a request that is written by hand.
const HEAD: &str = "POST /publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

const SMALL: [&str; 8] =
    ["--max-body-bytes", "4KiB", "--max-events", "3", "--max-payload-bytes", "1KiB", "--max-payload-depth", "4"];

#[tokio::test]
async fn each_refusal_has_its_status_and_code_and_nothing_is_stored() {
    let fixture = Fixture::start(&SMALL).await;
    let good = event("1").to_string();
    let many = json!([event("1"), event("2"), event("3"), event("4")]).to_string();
    let large = json!({"id": "1", "payload": "x".repeat(1_100)}).to_string();
    let huge = json!({"id": "1", "payload": "x".repeat(5_000)}).to_string();
    let key_too_long = "k".repeat(256);
    for (header, value, body, status, code) in [
        ("content-type", "text/plain", good.as_str(), 415, "unsupported_media_type"),
        ("content-type", "application/json; charset=utf-16", &good, 415, "unsupported_media_type"),
        ("content-encoding", "br", &good, 415, "unsupported_media_type"),
        ("content-encoding", "gzip, zstd", &good, 415, "unsupported_media_type"),
        ("content-encoding", "gzip", &good, 400, "malformed_encoding"),
        ("content-encoding", "zstd", &good, 400, "malformed_encoding"),
        ("idempotency-key", "", &good, 400, "invalid_idempotency_key"),
        ("idempotency-key", "a b", &good, 400, "invalid_idempotency_key"),
        ("idempotency-key", &key_too_long, &good, 400, "invalid_idempotency_key"),
        ("x-none", "", "", 400, "malformed_json"),
        ("x-none", "", "{\"id\":", 400, "malformed_json"),
        ("x-none", "", "[]", 422, "invalid_event"),
        ("x-none", "", "{\"id\":\"1\",\"payload\":[[[[[]]]]]}", 422, "payload_too_deep"),
        ("x-none", "", &many, 413, "too_many_events"),
        ("x-none", "", &large, 413, "payload_too_large"),
        ("x-none", "", &huge, 413, "body_too_large"),
    ] {
        let mut request = fixture.client.request("POST", "/publish").header(header, value).body(body.to_owned());
        if header != "content-type" {
            request = request.header("content-type", "application/json");
        }
        let problem = fixture.client.send(request).await.assert_problem(status, code);
        assert_eq!(problem["type"], format!("urn:sluice:problem:{code}"));
    }
    let two = json!([event("1"), {"id": "2", "payload": 1, "timestamp": "yesterday"}]).to_string();
    let problem = fixture.client.publish_raw(two).await.assert_problem(422, "invalid_event");
    assert_eq!((&problem["index"], &problem["field"]), (&json!(1), &json!("timestamp")), "{problem}");

    fixture.client.get("/publish").await.assert_problem(405, "method_not_allowed");
    fixture.client.get("/stats").await.assert_problem(404, "not_found");
    assert!(fixture.entries(0).await.is_empty());

    // Requests within the same limits are accepted.
    let no_type = fixture.client.request("POST", "/publish").body(good.clone());
    fixture.client.send(no_type).await.assert_problem(415, "unsupported_media_type");
    let answer = fixture.client.publish_raw(good).await.assert_status(202);
    assert_eq!(answer.json(), json!({"status": "accepted", "count": 1}));
    let wrapped = json!({"events": [event("2"), event("3")]});
    assert_eq!(fixture.client.publish(&wrapped).await, 2);
    assert_eq!(fixture.event_ids().await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_body_without_a_length_is_refused_as_soon_as_it_is_too_large() {
    let fixture = Fixture::start(&SMALL).await;
    // The client never completes its body, and still receives the response.
    let mut stream = connect(&fixture).await;
    let chunk = format!("{:x}\r\n{}\r\n", 3_000, "x".repeat(3_000));
    let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    stream.write_all(format!("{head}{chunk}{chunk}").as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_answered_408() {
    let fixture = Fixture::start(&["--body-timeout", "300ms"]).await;
    let mut stream = connect(&fixture).await;
    let began = Instant::now();
    stream.write_all(format!("{HEAD}content-length: 100\r\n\r\n{{\"id\":").as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_answered_and_not_stored() {
    let fixture = Fixture::start(&[]).await;
    let mut stream = connect(&fixture).await;
    let body = event("1").to_string();
    let head = format!("{HEAD}content-length: {}\r\n\r\n", body.len() + 1);
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed_json"), "{answer}");
    assert!(fixture.entries(0).await.is_empty());
}

async fn connect(fixture: &Fixture) -> TcpStream {
    TcpStream::connect(fixture.client.base().trim_start_matches("http://")).await.unwrap()
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
