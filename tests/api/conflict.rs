//! Events with the same key and another payload.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, System, wait_until};

use crate::common::{ids, list, system};

const SOON: Duration = Duration::from_secs(60);

on_both_backends!(
    a_conflict_is_counted_and_flagged_and_the_first_payload_stays,
    conflicts_are_logged_at_a_bounded_rate_and_the_rest_is_counted,
    a_conflict_inside_one_request_is_one_too,
    the_same_json_in_other_words_is_no_conflict,
    a_forced_key_collision_drops_the_second_event_and_counts_a_conflict,
);

async fn a_conflict_is_counted_and_flagged_and_the_first_payload_stays(backend: Backend) {
    let system = system(backend).await;
    let with = |amount: u64| json!({"topic": "t", "event_id": "1", "payload": {"amount": amount}});
    system.publish_and_wait(0, &with(1)).await;
    let snapshot = system.publish_and_wait(1, &with(2)).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.conflicts, snapshot.rows), (1, 1, 1, 1));
    let snapshot = system.publish_and_wait(2, &with(1)).await;
    assert_eq!((snapshot.duplicates, snapshot.conflicts), (2, 1), "compared with the first, not the last");

    assert_eq!(system.client.get_json("/events/t/1").await["payload"], json!({"amount": 1}));
    let stats = system.client.get_json("/stats").await;
    assert_eq!((&stats["conflicts"], &stats["topics"]["t"]["conflicts"]), (&json!(1), &json!(1)), "{stats}");
    wait_until("it is in the log", SOON, || async { holds(logged(&system) == 1, || system.aggregators[0].log()) })
        .await;
}

/// Returns the number of conflicts in the log.
fn logged(system: &System) -> u64 {
    let log = system.aggregators[0].log();
    log.lines().filter(|line| line.contains("payload differs") && line.contains("INFO")).count() as u64
}

async fn conflicts_are_logged_at_a_bounded_rate_and_the_rest_is_counted(backend: Backend) {
    const CONFLICTS: u64 = 3_000;
    let system = system(backend).await;
    let began = Instant::now();
    for request in 0..3 {
        let events: Vec<_> = (0..=CONFLICTS / 3).map(|n| json!({"id": request.to_string(), "payload": n})).collect();
        system.client.publish(&json!(events)).await;
    }
    let snapshot = system.wait_until_stored(CONFLICTS + 3).await;
    assert_eq!(u64::try_from(snapshot.conflicts), Ok(CONFLICTS));
    wait_until("each conflict is logged or counted", SOON, || async {
        let left_out = system.aggregator_metric("sluice_log_lines_left_out_total").await;
        holds(logged(&system) + left_out == CONFLICTS, || format!("{left_out} are left out"))
    })
    .await;
    // 20 a second, in the seconds that have begun.
    let most = 20 * (began.elapsed().as_secs() + 2);
    assert!(logged(&system) <= most, "{} of {most} lines", logged(&system));
}

async fn a_conflict_inside_one_request_is_one_too(backend: Backend) {
    let system = system(backend).await;
    let body =
        json!([{"id": "1", "payload": "first"}, {"id": "1", "payload": "second"}, {"id": "1", "payload": "first"}]);
    let snapshot = system.publish_and_wait(0, &body).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.conflicts), (1, 2, 1));
    assert_eq!(system.client.get_json("/events/default/1").await["payload"], "first");
}

async fn the_same_json_in_other_words_is_no_conflict(backend: Backend) {
    let system = system(backend).await;
    let bodies = [
        r#"{"id":"1","payload":{"a":"A/é","b":[1,2.50]}}"#,
        r#"{"id":"1","payload":{ "b" : [1, 2.50], "a" : "\u0041\/\u00e9" }}"#,
    ];
    for (before, body) in bodies.into_iter().enumerate() {
        system.client.publish_raw(body).await.assert_status(202);
        system.wait_until_stored(before as u64 + 1).await;
    }
    let snapshot = system.wait_until_stored(2).await;
    assert_eq!((snapshot.duplicates, snapshot.conflicts), (1, 0));

    // A number is compared as it was written: 2.5 is not the token that was stored.
    system.client.publish_raw(r#"{"id":"1","payload":{"a":"A/é","b":[1,2.5]}}"#).await.assert_status(202);
    assert_eq!(system.wait_until_stored(3).await.conflicts, 1);
}

async fn a_forced_key_collision_drops_the_second_event_and_counts_a_conflict(backend: Backend) {
    // With keys of zero bits every event has the same key. This simulates a collision, which 128 bits of BLAKE3
    // make practically impossible.
    let system = Setup::new(backend).aggregator("--test-key-bits", "0").start().await;
    system.publish_and_wait(0, &json!({"topic": "a", "event_id": "1", "payload": "first"})).await;
    let snapshot = system.publish_and_wait(1, &json!({"topic": "b", "event_id": "2", "payload": "other"})).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates), (2, 1, 1));
    assert_eq!((snapshot.conflicts, snapshot.rows), (1, 1), "the different payload is counted as a conflict");
    assert_eq!(ids(&list(&system.client, "").await), ["1"]);
}
