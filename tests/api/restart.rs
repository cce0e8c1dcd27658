//! Data that survives a restart.

use serde_json::json;
use sluice_tests::system::CATCH_UP;
use sluice_tests::{Backend, Setup};

use crate::common::{counts, event, events, list, system};

on_both_backends!(
    events_and_statistics_survive_a_restart,
    a_duplicate_is_recognised_after_a_restart,
    what_was_accepted_and_not_stored_survives_a_restart,
    sigterm_drains_and_exits_0,
);

async fn events_and_statistics_survive_a_restart(backend: Backend) {
    let mut system = system(backend).await;
    system.publish_and_wait(0, &json!([event("t", "1"), event("t", "2"), event("t", "1")])).await;
    let before = (counts(&system.client).await, list(&system.client, "").await);
    system.restart().await;
    assert_eq!((counts(&system.client).await, list(&system.client, "").await), before);
}

async fn a_duplicate_is_recognised_after_a_restart(backend: Backend) {
    let mut system = system(backend).await;
    system.publish_and_wait(0, &events("t", 0..100)).await;
    system.restart().await;
    let snapshot = system.publish_and_wait(100, &events("t", 50..150)).await;
    assert_eq!((snapshot.received, snapshot.unique, snapshot.duplicates, snapshot.rows), (200, 150, 50, 150));
}

async fn what_was_accepted_and_not_stored_survives_a_restart(backend: Backend) {
    // Everything is stopped directly after the last response, without waiting for the rows.
    let mut system = system(backend).await;
    let mut sent = 0;
    for start in 0..10 {
        sent += system.client.publish(&events("t", start * 1_000..start * 1_000 + 1_000)).await;
    }
    system.restart().await;
    assert_eq!(system.wait_until_stored(sent).await.rows, 10_000);
}

async fn sigterm_drains_and_exits_0(backend: Backend) {
    let mut system = Setup::new(backend).start().await;
    let client = system.client.clone();
    let publishing = tokio::spawn(async move {
        let mut accepted = 0;
        let request = || client.request("POST", "/publish").header("Content-Type", "application/json");
        while let Ok(answer) = client.try_send(request().body(events("t", accepted..accepted + 50).to_string())).await {
            match answer.status {
                202 => accepted += 50,
                503 => break,
                status => panic!("{status} {}", answer.text),
            }
        }
        accepted
    });
    sluice_tests::wait_until("some events are stored", CATCH_UP, || async {
        let [received, ..] = counts(&system.client).await;
        sluice_tests::wait::holds(received > 500, || received.to_string())
    })
    .await;
    let status = system.ingest().terminate();
    assert_eq!(status.and_then(|s| s.code()), Some(0), "{status:?}");
    let accepted = publishing.await.unwrap();

    system.ingest().start().await;
    let answered = system.wait_until_stored_at_least(accepted).await;
    // The request without a response may have been accepted: then all its events must be stored, otherwise
    // none of them.
    assert!([accepted, accepted + 50].contains(&answered.rows.cast_unsigned()), "{accepted} accepted, {answered:?}");
    let mut stored: Vec<_> = system.reader().await.rows().await.unwrap().into_iter().map(|(_, id, _)| id).collect();
    let mut expected: Vec<_> = (0..answered.rows).map(|n| format!("evt-{n}")).collect();
    stored.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stored, expected);
}
