//! Requests that are repeated with the same `Idempotency-Key`.

use serde_json::json;
use sluice_tests::{Backend, Setup};

use crate::common::{event, events, system};

on_both_backends!(
    a_request_repeated_under_its_key_counts_once,
    a_request_repeated_without_a_key_has_been_sent_twice,
    a_key_reused_with_another_body_is_refused_and_nothing_is_stored,
    the_same_request_from_16_clients_at_once_counts_once,
    of_two_bodies_under_one_key_at_once_exactly_one_is_accepted,
    other_keys_with_the_same_body_are_other_requests,
    a_key_is_remembered_over_a_restart,
    white_space_makes_another_body,
);

async fn a_request_repeated_under_its_key_counts_once(backend: Backend) {
    let system = system(backend).await;
    for _ in 0..5 {
        let answer = system.client.publish_keyed("request-1", &events("t", 0..10)).await.assert_status(202);
        assert_eq!(answer.json(), json!({"status": "accepted", "count": 10}), "each response is the same");
    }
    // This event is behind the repetitions in the stream: once it is stored, all of them have been processed.
    system.client.publish(&event("next", "1")).await;
    let snapshot = system.wait_until_stored(11).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (11, 11, 0, 11));
}

async fn a_request_repeated_without_a_key_has_been_sent_twice(backend: Backend) {
    let system = system(backend).await;
    for _ in 0..2 {
        system.client.publish(&events("t", 0..10)).await;
    }
    let snapshot = system.wait_until_stored(20).await;
    assert_eq!((snapshot.unique, snapshot.duplicates), (10, 10));
}

async fn a_key_reused_with_another_body_is_refused_and_nothing_is_stored(backend: Backend) {
    let system = system(backend).await;
    system.client.publish_keyed("k", &events("t", 0..2)).await.assert_status(202);
    let answer = system.client.publish_keyed("k", &events("t", 0..3)).await;
    answer.assert_problem(422, "idempotency_key_reused");
    system.client.publish_keyed("k", &events("t", 0..2)).await.assert_status(202);
    system.client.publish(&event("next", "1")).await;
    assert_eq!(system.wait_until_stored(3).await.rows, 3);
}

async fn the_same_request_from_16_clients_at_once_counts_once(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    let requests = (0..16).map(|_| {
        let client = system.client.clone();
        tokio::spawn(async move { client.publish_keyed("one key", &events("t", 0..100)).await })
    });
    // A space is not allowed in a key, so all of them are refused alike.
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().assert_problem(400, "invalid_idempotency_key");
    }
    let requests = (0..16).map(|_| {
        let client = system.client.clone();
        tokio::spawn(async move { client.publish_keyed("one-key", &events("t", 0..100)).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().assert_status(202);
    }
    system.client.publish(&event("next", "1")).await;
    let snapshot = system.wait_until_stored(101).await;
    assert_eq!((snapshot.received, snapshot.rows), (101, 101));
}

async fn of_two_bodies_under_one_key_at_once_exactly_one_is_accepted(backend: Backend) {
    let system = system(backend).await;
    let mut accepted = 0;
    for round in 0..20 {
        let key = format!("round-{round}");
        let send = |id: String| {
            let (client, key) = (system.client.clone(), key.clone());
            tokio::spawn(async move { client.publish_keyed(&key, &event("t", &id)).await })
        };
        let (left, right) = (send(format!("{round}-left")), send(format!("{round}-right")));
        let mut statuses = [left.await.unwrap().status, right.await.unwrap().status];
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 422]);
        accepted += 1;
    }
    assert_eq!(system.wait_until_stored(accepted).await.rows, 20);
}

async fn other_keys_with_the_same_body_are_other_requests(backend: Backend) {
    let system = system(backend).await;
    for key in ["a", "b", "c"] {
        system.client.publish_keyed(key, &event("t", "1")).await.assert_status(202);
    }
    let snapshot = system.wait_until_stored(3).await;
    assert_eq!((snapshot.unique, snapshot.duplicates), (1, 2));
}

async fn a_key_is_remembered_over_a_restart(backend: Backend) {
    let mut system = system(backend).await;
    system.client.publish_keyed("k", &events("t", 0..10)).await.assert_status(202);
    system.wait_until_stored(10).await;
    system.restart().await;
    system.client.publish_keyed("k", &events("t", 0..10)).await.assert_status(202);
    system.client.publish_keyed("k", &events("t", 0..9)).await.assert_problem(422, "idempotency_key_reused");
    system.client.publish(&event("next", "1")).await;
    assert_eq!(system.wait_until_stored(11).await.received, 11);
}

async fn white_space_makes_another_body(backend: Backend) {
    // The bodies are compared byte by byte, because a client that repeats a request sends the same bytes.
    let system = system(backend).await;
    let send = |body: &'static str| {
        let request = system.client.request("POST", "/publish").header("Content-Type", "application/json");
        system.client.send(request.header("Idempotency-Key", "k").body(body))
    };
    send(r#"{"id":"1","payload":1}"#).await.assert_status(202);
    send(r#"{"id":"1", "payload":1}"#).await.assert_problem(422, "idempotency_key_reused");
}
