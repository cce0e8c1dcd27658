//! The consumer group is lost, as after a restart of Redis without its data.

use redis::AsyncCommands;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::trial::{SOON, Trial, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_group_is_made_again_and_receipts_absorb_the_replay() {
    let mut trial = Trial::begin_unseen("the consumer group is lost", cluster().await).await;
    let (url, prefix) = trial.system.stream.clone().unwrap();
    let mut connection = sluice_tests::redis::connect(&url).await.unwrap();
    let mut stream = trial.system.stream().await;
    for _ in 0..3 {
        let lock = trial.hold(&[0, 1, 2]).await;
        let pending = stream.pending().await.unwrap();
        let gone: bool = connection.xgroup_destroy(format!("{prefix}:{{0}}"), "aggregators").await.unwrap();
        assert!(gone, "the group did not exist");
        lock.release().await;
        trial.fault(pending);
        wait_until("the group exists again", SOON, || {
            let mut stream = stream.clone();
            async move {
                let consumers = stream.consumers().await.map_err(|e| e.to_string())?;
                holds(consumers.len() == 3, || format!("{consumers:?}"))
            }
        })
        .await;
        trial.load.more(500).await;
    }
    let tally = trial.end().await;
    assert!(tally.skipped > 0, "{tally}");
}
