//! The primary of Redis is killed, and a replica takes its place.

use sluice_tests::sentinels::WatchedRedis;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, wait_until};

use crate::trial::{SOON, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_loses_nothing_that_was_answered_if_its_replica_must_have_it() {
    let start = || WatchedRedis::start(1, &[], None);
    let mut watched = tokio::task::spawn_blocking(start).await.unwrap();
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3).replica("--claim-after", "5s");
    let setup = setup.publisher("--redis-replicas", "1").redis_at(&watched.url(), &watched.servers[0].url());
    let mut trial = Trial::begin("kill -9 of the primary of Redis, and failover by Sentinels", setup).await;
    for _ in 0..2 {
        let lock = trial.hold(&[0, 1, 2]).await;
        let pending = trial.system.stream().await.pending().await.unwrap();
        let repeats = trial.load.repeats();
        let old = watched.kill_primary();
        lock.release().await;
        trial.fault(pending);
        let load = &trial.load;
        wait_until("clients get an error or no response", SOON, || async {
            holds(load.repeats() > repeats, || format!("no request was repeated, {} in flight", load.in_flight()))
        })
        .await;
        watched = tokio::task::spawn_blocking(move || {
            watched.wait_for_failover_from(old);
            // Nothing is answered until the new primary has a replica.
            watched.servers[old].start_again();
            watched
        })
        .await
        .unwrap();
        if let Some((url, _)) = &mut trial.system.stream {
            *url = watched.servers[1 - old].url();
        }
        trial.load.more(500).await;
    }
    let tally = trial.end_after_failover().await;
    assert!(tally.repeats > 0, "{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_its_replica_does_not_answer_clients_get_503_and_nothing_hangs() {
    let start = || WatchedRedis::start(1, &[], None);
    let watched = tokio::task::spawn_blocking(start).await.unwrap();
    let setup = Setup::new(Backend::RedisPostgres).publisher("--redis-replicas", "1");
    let setup = setup.publisher("--append-timeout", "2s").redis_at(&watched.url(), &watched.servers[0].url());
    let mut trial = Trial::begin("the replica of Redis is stopped", setup).await;
    let replica = &watched.servers[1];
    replica.process().freeze();
    let client = trial.system.client.clone();
    let event = serde_json::json!({"topic": "topic-0", "event_id": "evt-0", "payload": null});
    let refused = wait_until("a refusal", SOON, || async {
        let answer = client.publish_raw(event.to_string()).await;
        if answer.status == 202 { Err(answer.text) } else { Ok(answer) }
    })
    .await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"log_unavailable".into()), "{}", refused.text);
    assert_eq!(client.get("/stats").await.status, 200);
    trial.fault(trial.load.in_flight());
    replica.process().resume();
    trial.load.more(500).await;
}
