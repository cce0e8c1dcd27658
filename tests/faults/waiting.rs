//! Clients wait until their requests are stored, while the programs are killed.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::{Client, Snapshot};
use tokio::task::JoinSet;

use crate::trial::cluster;

const CLIENTS: u64 = 6;
const REQUESTS: u64 = 50;
/// Events of a request: two new ones, and one that was sent before.
const EVENTS: u64 = 3;

/// Sends a request under a key until it is answered with its outcome, and once more.
async fn stored(client: &Client, key: &str, body: &Value) -> [u64; 2] {
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        let request = client.request("POST", "/publish?wait=stored").header("Content-Type", "application/json");
        let request = request.header("Idempotency-Key", key).body(body.to_string()).timeout(Duration::from_secs(5));
        match client.try_send(request).await {
            Ok(answer) if answer.status == 200 => outcomes.push(answer.json()),
            Ok(answer) if matches!(answer.status, 202 | 503) => {}
            Ok(answer) => panic!("{} {}", answer.status, answer.text),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    assert_eq!(outcomes[0], outcomes[1], "the repetition is answered alike");
    ["stored", "duplicates"].map(|name| outcomes[0][name].as_u64().expect("a number"))
}

/// Sends requests, and returns the sums of their outcomes.
async fn send(client: Client, number: u64) -> [u64; 2] {
    let mut sums = [0; 2];
    for n in 0..REQUESTS {
        let id = |n: u64| json!({"topic": "t", "event_id": format!("{number}-{n}"), "payload": {"n": n}});
        let body = json!([id(2 * n), id(2 * n + 1), id(n)]);
        let outcome = stored(&client, &format!("{number}-{n}"), &body).await;
        assert_eq!(outcome.iter().sum::<u64>(), EVENTS, "each event of {number}-{n} is in its outcome");
        sums = [sums[0] + outcome[0], sums[1] + outcome[1]];
    }
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcomes_that_clients_wait_for_add_up_to_what_is_stored_whatever_is_killed() {
    let mut system = cluster().await.publisher("--wait-timeout", "2s").start().await;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(send(system.client.clone(), number));
    }
    let mut kills = 0;
    let mut sums = [0; 2];
    loop {
        match tokio::time::timeout(Duration::from_millis(400), clients.join_next()).await {
            Ok(None) => break,
            Ok(Some(sum)) => {
                let sum = sum.expect("a client that sent everything");
                sums = [sums[0] + sum[0], sums[1] + sum[1]];
            }
            // In turn each aggregator and the publisher.
            Err(_) if kills < 12 => {
                let program = match kills % 4 {
                    3 => system.ingest(),
                    aggregator => &mut system.aggregators[aggregator],
                };
                program.kill();
                program.start().await;
                kills += 1;
            }
            Err(_) => {}
        }
    }
    let Snapshot { received, unique, duplicates, rows, .. } =
        system.wait_until_stored(CLIENTS * REQUESTS * EVENTS).await;
    println!("   kills {kills} · received {received} · unique {unique} · duplicates {duplicates} · rows {rows}");
    assert!(kills > 2, "the load ended too early");
    assert_eq!([sums[0], sums[1]], [unique as u64, duplicates as u64], "stored and duplicates");
    assert_eq!((rows, unique), (unique, (CLIENTS * REQUESTS * 2) as _));
}
