//! Backpressure: requests beyond a limit are refused with status 429 and a `Retry-After`.

use std::time::Duration;

use serde_json::json;
use sluice_log::LogReader;
use sluice_log::redis::{ReaderSettings, RedisReader, RedisTls};
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::{Answer, wait_until};

use crate::fixture::{Fixture, PATIENCE, event};

fn assert_429(answer: &Answer, code: &str) {
    answer.assert_problem(429, code);
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait >= 1, "Retry-After: {wait}");
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    let fixture = Fixture::start(&["--max-waiting", "3"]).await;
    fixture.client.publish(&event("before")).await;
    fixture.freeze_redis().await;
    let waiting: Vec<_> = (0..3).map(|n| fixture.publish(None, event(n))).collect();
    fixture.waiting(3).await;
    assert_429(&fixture.client.publish_raw(event("refused").to_string()).await, "queue_full");
    fixture.thaw_redis();
    for answer in waiting {
        answer.await.unwrap().assert_status(202);
    }
    fixture.client.publish(&event("after")).await;
    let mut ids = fixture.event_ids().await;
    ids.sort_unstable();
    assert_eq!(ids, ["0", "1", "2", "after", "before"]);
}

#[tokio::test]
async fn bodies_in_hand_are_bounded_in_bytes() {
    let fixture = Fixture::start(&["--max-waiting-bytes", "100KiB", "--max-body-bytes", "100KiB"]).await;
    fixture.client.publish(&event("before")).await;
    fixture.freeze_redis().await;
    let large = |id: &str| json!({"id": id, "payload": "x".repeat(60 << 10)});
    let first = fixture.publish(None, large("1"));
    fixture.waiting(1).await;
    assert_429(&fixture.client.publish_raw(large("2").to_string()).await, "queue_full");
    fixture.thaw_redis();
    first.await.unwrap().assert_status(202);
    fixture.client.publish(&large("2")).await;
}

#[tokio::test]
async fn a_backlog_that_is_too_long_refuses_until_it_is_worked_off() {
    let fixture = Fixture::start(&["--max-backlog", "10"]).await;
    let ten: Vec<_> = (0..10).map(event).collect();
    fixture.client.publish(&json!(ten)).await;
    // The first request may still be accepted: a measurement of the backlog that began before the append
    // can arrive after its answer, and counts until the next one.
    let refused = wait_until("a refusal", PATIENCE, || async {
        let answer = fixture.client.publish_raw(event("refused").to_string()).await;
        if answer.status == 202 { Err(answer.text) } else { Ok(answer) }
    })
    .await;
    assert_429(&refused, "backlog_full");

    let reader = RedisReader::new(ReaderSettings {
        url: fixture.redis.url(),
        sentinel: sluice_log::redis::SentinelLogin::default(),
        tls: RedisTls::default(),
        prefix: "t".to_owned(),
        streams: 1,
        consumer: "aggregator-0".to_owned(),
        replay_window: Duration::from_secs(60),
        replay_window_bytes: 1 << 20,
    })
    .unwrap();
    let entries = reader.read_new(1_000, Duration::from_secs(5)).await.unwrap();
    let done: Vec<_> = entries.iter().map(|entry| (entry.position, entry.events)).collect();
    assert_eq!(reader.acknowledge(&done).await.unwrap(), done.len() as u64);
    wait_until("requests are accepted again", PATIENCE, || async {
        let answer = fixture.client.publish_raw(event("accepted").to_string()).await;
        holds(answer.status == 202, || answer.text.clone())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_runs_short_of_memory_refuses_well_before_it_is_full() {
    let redis = RedisServer::start_with(&["--maxmemory", "16mb"]);
    let fixture = Fixture::start_on(redis, &["--max-memory", "0.5"]).await;
    let large = json!({"id": "1", "payload": noise(200 << 10)}).to_string();
    // Redis may free the buffers of a request after the refusal, and is measured again: then more is accepted until it is full.
    let ratio = wait_until("a refusal while the memory is short", PATIENCE, || async {
        let answer = fixture.client.publish_raw(large.clone()).await;
        if answer.status == 202 {
            return Err(answer.text);
        }
        assert_429(&answer, "log_memory_full");
        let ratio = fixture.metric("sluice_publish_log_memory_ratio").await;
        if ratio < 0.5 { Err(ratio.to_string()) } else { Ok(ratio) }
    })
    .await;
    assert!((0.5..0.95).contains(&ratio), "{ratio}");
}

#[tokio::test]
async fn a_redis_without_room_answers_429_and_not_503() {
    // The limit of the publisher is the whole memory, so that Redis itself refuses the append.
    let redis = RedisServer::start_with(&["--maxmemory", "4mb"]);
    let fixture = Fixture::start_on(redis, &["--max-memory", "1"]).await;
    let large = json!({"id": "1", "payload": noise(200 << 10)}).to_string();
    let answer = wait_until("a refusal", PATIENCE, || async {
        let answer = fixture.client.publish_raw(large.clone()).await;
        if answer.status == 202 { Err(answer.text) } else { Ok(answer) }
    })
    .await;
    assert_429(&answer, "log_memory_full");
}

/// Returns random text, which compresses badly.
fn noise(bytes: usize) -> String {
    std::iter::repeat_with(|| format!("{:032x}", rand::random::<u128>())).take(bytes / 32).collect()
}

/// A client of a pool would send its next request on a connection that is about to be closed, and get no answer.
#[tokio::test]
async fn a_refusal_says_that_the_connection_ends_if_the_body_was_not_read() {
    let fixture = Fixture::start(&[]).await;
    let large = json!({"id": "1", "payload": noise(200 << 10)}).to_string();
    let publish = async |body: String, content_type: &str| {
        let request = fixture.client.request("POST", "/publish").body(body).header("Content-Type", content_type);
        let answer = fixture.client.send(request).await;
        (answer.status, answer.headers.contains_key("connection"))
    };
    assert_eq!(publish(large.clone(), "text/html").await, (415, true));
    assert_eq!(publish(large.replacen('{', "[", 1), "application/json").await, (422, false), "its body was read");
    assert_eq!(publish("{}".to_owned(), "text/html").await, (415, false), "it is small");
    assert_eq!(publish(large, "application/json").await, (202, false));
}
