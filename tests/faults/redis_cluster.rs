//! A node of a Redis Cluster is killed, and slots are moved.

use std::time::Duration;

use sluice_tests::cluster::RedisCluster;
use sluice_tests::{Backend, Setup};

use crate::trial::Trial;

/// Three on each node.
const STREAMS: u16 = 9;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_and_moved_slots_lose_nothing_that_was_answered() {
    let start = || RedisCluster::start(3, true, &[]);
    let mut cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let setup = Setup::new(Backend::RedisPostgres).aggregators(3).replica("--claim-after", "5s");
    let setup = setup.replica("--streams", &STREAMS.to_string()).publisher("--streams", &STREAMS.to_string());
    let setup = setup.publisher("--redis-replicas", "1").redis_at(&cluster.url(), &cluster.servers[0].url());
    let mut trial = Trial::begin("a node of a Redis Cluster is killed, and slots are moved", setup).await;
    let (_, prefix) = trial.system.stream.take().unwrap();

    let lock = trial.hold(&[0, 1, 2]).await;
    let slot = cluster.slot(&format!("{prefix}:{{1.9250}}"));
    let killed = cluster.owner(slot);
    cluster.servers[killed].kill();
    lock.release().await;
    // Each aggregator has a batch in flight.
    trial.fault(3);
    cluster = tokio::task::spawn_blocking(move || {
        cluster.wait_for_failover_from(killed, slot);
        cluster.servers[killed].start_again();
        cluster.wait_until_replica(killed);
        cluster
    })
    .await
    .unwrap();
    trial.load.more(500).await;

    for (tag, to) in [("0.2322", 2), ("2.251", 0), ("0.2322", 0)] {
        let lock = trial.hold(&[0, 1, 2]).await;
        trial.fault(3);
        lock.release().await;
        let slot = cluster.slot(&format!("{prefix}:{{{tag}}}"));
        cluster = tokio::task::spawn_blocking(move || {
            let moved = cluster.begin_move(slot, to);
            for _ in 0..4 {
                moved.one_key();
                // Requests meet a slot of which some keys have been moved.
                std::thread::sleep(Duration::from_millis(50));
            }
            moved.finish();
            cluster
        })
        .await
        .unwrap();
        trial.load.more(500).await;
    }
    trial.end_after_failover().await;
}
