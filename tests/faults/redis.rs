//! Redis dies.

use std::time::Duration;

use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::trial::{SOON, Trial, cluster, entries_pending};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_nothing_that_was_answered() {
    let setup = cluster().await.publisher("--append-timeout", "2s");
    let mut trial = Trial::begin("kill -9 of Redis", setup).await;
    while trial.faults() < 4 || trial.recognised().await == 0 {
        assert!(trial.faults() < 30, "nothing was claimed or skipped in 30 kills");
        let mut stream = trial.system.stream().await;
        let pending = entries_pending(&mut stream).await;
        // Redis has just answered, so it is not in the middle of a write: any moment after that.
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..5_000))).await;
        let repeats = trial.load.repeats();
        trial.system.servers.as_mut().unwrap().redis.kill();
        trial.fault(pending);
        let load = &trial.load;
        wait_until("clients are told, or see no answer", SOON, || async {
            holds(load.repeats() > repeats, || "no request was repeated".into())
        })
        .await;
        trial.system.servers.as_mut().unwrap().redis.start_again();
        trial.load.more(500).await;
    }
    let tally = trial.end().await;
    assert!(tally.repeats > 0 && tally.claimed + tally.skipped > 0, "{tally}");
}
