//! Requests that are answered when they are stored, with what became of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::{Answer, Backend, Client, Setup};

use crate::common::{event, system};

on_both_backends!(
    a_request_that_waits_is_answered_with_what_became_of_its_events,
    a_repetition_gets_the_same_answer,
    a_preference_to_wait_is_met_and_a_parameter_that_is_none_is_refused,
    a_part_of_a_request_can_be_waited_for,
    after_the_timeout_the_request_is_accepted,
);

async fn publish(client: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = client.request("POST", path).header("Content-Type", "application/json").body(body.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await
}

async fn a_request_that_waits_is_answered_with_what_became_of_its_events(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    let client = &system.client;
    let first = publish(client, "/publish?wait=stored", &[], &event("t", "1")).await.assert_status(200);
    assert_eq!(
        first.json(),
        json!({"status": "stored", "count": 1, "stored": 1, "duplicates": 0, "conflicts": 0, "dead_lettered": 0})
    );
    assert_eq!(client.get_json("/events/t/1").await["event_id"], "1", "it is stored when it is answered");
    let mut other = event("t", "1");
    other["payload"] = 1.into();
    let body = json!([event("t", "1"), other, event("t", "2")]);
    let second = publish(client, "/publish?wait=stored", &[], &body).await.assert_status(200).json();
    assert_eq!(
        second,
        json!({"status": "stored", "count": 3, "stored": 1, "duplicates": 2, "conflicts": 1, "dead_lettered": 0})
    );
}

async fn a_repetition_gets_the_same_answer(backend: Backend) {
    let system = Setup::new(backend).aggregators(2).start().await;
    let client = &system.client;
    let key = [("Idempotency-Key", "k")];
    let body = json!([event("t", "1"), event("t", "2")]);
    let first = publish(client, "/publish?wait=stored", &key, &body).await.assert_status(200).json();
    assert_eq!(first["stored"], 2);
    client.publish(&body).await;
    let snapshot = system.wait_until_stored(4).await;
    assert_eq!((snapshot.unique, snapshot.duplicates), (2, 2));
    let again = publish(client, "/publish?wait=stored", &key, &body).await.assert_status(200).json();
    assert_eq!(again, first, "it says what became of the request, and not of its repetition");
    assert_eq!(system.wait_until_stored(4).await.duplicates, 2);
}

async fn a_preference_to_wait_is_met_and_a_parameter_that_is_none_is_refused(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let answer = publish(client, "/publish", &[("Prefer", "wait=30")], &event("t", "1")).await.assert_status(200);
    assert_eq!(answer.json()["status"], "stored");
    assert_eq!(answer.headers["preference-applied"], "wait");
    let plain = publish(client, "/publish", &[("Prefer", "respond-async")], &event("t", "2")).await.assert_status(202);
    assert!(plain.headers.get("preference-applied").is_none());
    let problem =
        publish(client, "/publish?wait=yes", &[], &event("t", "3")).await.assert_problem(400, "invalid_query");
    assert_eq!(problem["field"], "wait");
    assert_eq!(system.wait_until_stored(2).await.rows, 2);
}

async fn a_part_of_a_request_can_be_waited_for(backend: Backend) {
    let system = system(backend).await;
    let body = json!([event("t", "1"), {"id": "2"}]);
    let answer = publish(&system.client, "/publish?partial=true&wait=stored", &[], &body).await.assert_status(200);
    let answer = answer.json();
    assert_eq!(
        (&answer["count"], &answer["stored"], &answer["rejected"]),
        (&1.into(), &1.into(), &1.into()),
        "{answer}"
    );
}

async fn after_the_timeout_the_request_is_accepted(backend: Backend) {
    let mut system = Setup::new(backend).publisher("--wait-timeout", "700ms").start().await;
    if backend == Backend::RedisPostgres {
        system.aggregators[0].kill();
        let began = Instant::now();
        let answer = publish(&system.client, "/publish?wait=stored", &[], &event("t", "1")).await.assert_status(202);
        assert_eq!(answer.json(), json!({"status": "accepted", "count": 1}));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(10), "{took:?}");
        system.aggregators[0].start().await;
    } else {
        publish(&system.client, "/publish", &[("Prefer", "wait=0")], &event("t", "1")).await;
    }
    assert_eq!(system.wait_until_stored(1).await.rows, 1);
}
