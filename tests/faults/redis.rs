//! Redis is killed.

use std::time::Duration;

use sluice_tests::proxy::Cut;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::trial::{SOON, Trial, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_nothing_that_was_answered() {
    let setup = cluster().await.publisher("--append-timeout", "2s");
    let proxy = RedisProxy::start(&setup.servers().redis.address(), Cut::After).await;
    let mut trial = Trial::begin("kill -9 of Redis", setup.redis_through(proxy.address())).await;
    let mut on_disk = 0;
    for round in 0..4 {
        let mut stream = trial.system.stream().await;
        let lock = trial.hold(&[0, 1, 2]).await;
        let pending = stream.pending().await.unwrap();
        if round % 2 == 0 {
            // An append is on disk, and its response is lost when Redis is killed.
            proxy.hold_responses();
            wait_until("an append is on disk and without a response", SOON, || async {
                holds(proxy.held() > 0, || format!("{} requests in flight", trial.load.in_flight()))
            })
            .await;
            on_disk += 1;
        } else {
            // Redis has just responded, so it is not in the middle of a write. The next fault comes at any moment
            // after that.
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..5_000))).await;
        }
        let repeats = trial.load.repeats();
        trial.system.servers.as_mut().unwrap().redis.kill();
        proxy.lose_responses();
        lock.release().await;
        trial.fault(pending);
        let load = &trial.load;
        wait_until("clients get an error or no response", SOON, || async {
            holds(load.repeats() > repeats, || format!("no request was repeated, {} in flight", load.in_flight()))
        })
        .await;
        trial.system.servers.as_mut().unwrap().redis.start_again();
        trial.load.more(500).await;
    }
    let tally = trial.end().await;
    assert!(tally.repeats > 0, "{tally}");
    assert!(tally.skipped >= on_disk, "appends on disk are recognised when they are repeated: {tally}");
}
