//! Bodies with a `Content-Encoding`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sluice_tests::Answer;

use crate::fixture::{Fixture, event};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

/// Publishes a body under a key, if there is one, with the coding, if there is one.
async fn publish(fixture: &Fixture, key: Option<&str>, coding: Option<&str>, body: &[u8]) -> Answer {
    let mut request = fixture.client.request("POST", "/publish").header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    if let Some(coding) = coding {
        request = request.header("content-encoding", coding);
    }
    fixture.client.send(request.body(body.to_vec())).await
}

#[tokio::test]
async fn compressed_bodies_are_stored_as_others_are_and_counted_by_their_expanded_size() {
    let fixture = Fixture::start(&[]).await;
    let events: Vec<Value> = (0..2_000).map(event).collect();
    let body = json!(events).to_string();
    assert!(body.len() > 300_000, "one that is parsed on a thread of its own");
    for (coding, compressed) in [("gzip", gzip(body.as_bytes())), ("zstd", zstd(body.as_bytes()))] {
        let answer = publish(&fixture, None, Some(coding), &compressed).await.assert_status(202);
        assert_eq!(answer.json(), json!({"status": "accepted", "count": 2_000}));
    }
    let ids: Vec<_> = (0..2).flat_map(|_| (0..2_000).map(|n| n.to_string())).collect();
    assert_eq!(fixture.event_ids().await, ids);
    assert_eq!(fixture.metric("sluice_publish_body_bytes_total").await, 2.0 * body.len() as f64);
}

#[tokio::test]
async fn a_repetition_with_another_coding_is_the_same_request() {
    let fixture = Fixture::start(&[]).await;
    let body = json!([event("1"), event("2")]).to_string();
    let (gzip, zstd) = (gzip(body.as_bytes()), zstd(body.as_bytes()));
    for (coding, body) in [(Some("gzip"), &gzip[..]), (Some("zstd"), &zstd), (None, body.as_bytes())] {
        publish(&fixture, Some("key"), coding, body).await.assert_status(202);
    }
    let receipts: Vec<_> = fixture.entries(0).await.into_iter().flat_map(|entry| entry.requests).collect();
    assert!(receipts.iter().all(|(_, receipt, _)| receipt.is_some() && *receipt == receipts[0].1), "{receipts:?}");
    let other = self::gzip(json!([event("3")]).to_string().as_bytes());
    publish(&fixture, Some("key"), Some("gzip"), &other).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_bomb_and_a_damaged_stream_are_refused_and_the_next_body_is_accepted() {
    let fixture = Fixture::start(&["--max-body-bytes", "256KiB", "--max-waiting-bytes", "512KiB"]).await;
    let spaces = vec![b' '; 16 << 20];
    let good = event("1").to_string();
    for (coding, bomb, mut damaged) in
        [("gzip", gzip(&spaces), gzip(good.as_bytes())), ("zstd", zstd(&spaces), zstd(good.as_bytes()))]
    {
        assert!(bomb.len() < 256 << 10, "{coding}: {} bytes are not refused before they are expanded", bomb.len());
        let problem = publish(&fixture, None, Some(coding), &bomb).await.assert_problem(413, "body_too_large");
        assert!(problem["detail"].as_str().unwrap().contains("expanded"), "{problem}");
        damaged.pop();
        let problem = publish(&fixture, None, Some(coding), &damaged).await.assert_problem(400, "malformed_encoding");
        assert!(problem["detail"].as_str().unwrap().contains("ends early"), "{problem}");
    }
    assert_eq!(fixture.entries(0).await.len(), 0);
    publish(&fixture, None, Some("zstd"), &zstd(good.as_bytes())).await.assert_status(202);
    assert_eq!(fixture.event_ids().await, ["1"]);
}
