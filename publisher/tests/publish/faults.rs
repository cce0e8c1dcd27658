//! Fault tests: Redis stops and starts again, and its replies are lost.

use sluice_tests::proxy::Cut;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::redis::RedisServer;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::fixture::{Fixture, PATIENCE, event};

/// Starts a publisher that connects to Redis through a proxy, and publishes one event.
async fn behind_a_proxy(cut: Cut) -> (Fixture, RedisProxy) {
    let redis = RedisServer::start();
    let proxy = RedisProxy::start(&redis.address(), cut).await;
    let url = format!("redis://{}", proxy.address());
    let fixture = Fixture::start_through(redis, &url, &[]).await;
    fixture.client.publish(&event("before")).await;
    (fixture, proxy)
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_repeated_under_the_same_entry_id() {
    let (fixture, proxy) = behind_a_proxy(Cut::After).await;
    proxy.arm(1);
    fixture.client.publish(&event("1")).await;
    assert_eq!(proxy.cuts(), 1);
    let entries = fixture.entries(0).await;
    assert_eq!(entries.len(), 3, "the first entry, and the repeated one twice: {entries:?}");
    assert_eq!(entries[1].id, entries[2].id);
    assert_ne!(entries[0].id, entries[1].id);
    assert_eq!(fixture.metric("sluice_publish_append_repeats_total").await, 1.0);
}

#[tokio::test]
async fn an_append_that_never_reached_redis_is_repeated_and_stored_once() {
    let (fixture, proxy) = behind_a_proxy(Cut::Before).await;
    proxy.arm(1);
    fixture.client.publish_keyed("k", &event("1")).await.assert_status(202);
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(fixture.event_ids().await, ["before", "1"]);
}

#[tokio::test]
async fn without_redis_requests_are_answered_503_and_the_publisher_stays_ready() {
    let mut fixture = Fixture::start(&["--append-timeout", "1s"]).await;
    fixture.client.publish(&event("before")).await;
    fixture.redis.kill();
    let answer = fixture.client.publish_raw(event("lost").to_string()).await;
    let problem = answer.assert_problem(503, "log_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!problem.to_string().contains("127.0.0.1"), "the response has the address of Redis: {problem}");
    assert_eq!(fixture.client.get("/readyz").await.status, 200);
    assert_eq!(fixture.client.get("/healthz").await.status, 200);

    fixture.redis.start_again();
    wait_until("requests are accepted again", PATIENCE, || async {
        let answer = fixture.client.publish_raw(event("after").to_string()).await;
        holds(answer.status == 202, || answer.text.clone())
    })
    .await;
    assert_eq!(fixture.event_ids().await.first().map(String::as_str), Some("before"));
}

#[tokio::test]
async fn a_request_in_hand_while_redis_restarts_is_accepted() {
    let mut fixture = Fixture::start(&["--append-timeout", "30s"]).await;
    fixture.client.publish(&event("before")).await;
    fixture.redis.kill();
    let keyed = fixture.publish(Some("k"), event("keyed"));
    let unkeyed = fixture.publish(None, event("unkeyed"));
    wait_until("appends are repeated", PATIENCE, || async {
        let repeats = fixture.metric("sluice_publish_append_repeats_total").await;
        holds(repeats >= 2.0, || format!("{repeats} repeats"))
    })
    .await;
    fixture.redis.start_again();
    keyed.await.unwrap().assert_status(202);
    unkeyed.await.unwrap().assert_status(202);
    let mut ids = fixture.event_ids().await;
    ids.sort_unstable();
    assert_eq!(ids, ["before", "keyed", "unkeyed"]);
}
