//! A connection breaks just before or just after the server executes a command. The client of that connection
//! cannot tell which.

use sluice_tests::proxy::Cut;
use sluice_tests::proxy::postgres::PostgresProxy;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::wait::holds;
use sluice_tests::{Tally, wait_until};

use crate::trial::{SOON, Trial, cluster};

/// The number of messages that are cut in a test, and how many of them consecutively.
const ROUNDS: u64 = 8;
const IN_A_ROW: u64 = 3;

async fn commits_cut(name: &'static str, cut: Cut) -> Tally {
    let setup = cluster().await;
    let proxy = PostgresProxy::start(&setup.servers().postgres.address(), cut).await;
    let setup = setup.postgres_through(proxy.address());
    let mut trial = Trial::begin_unseen(name, setup).await;
    for round in 1..=ROUNDS {
        proxy.arm(IN_A_ROW);
        wait_until("the proxy has cut", SOON, || async {
            holds(proxy.cuts() == round * IN_A_ROW, || format!("{} cuts", proxy.cuts()))
        })
        .await;
        trial.fault(IN_A_ROW);
        trial.load.more(500).await;
    }
    trial.end().await
}

async fn appends_cut(name: &'static str, cut: Cut) -> Tally {
    let setup = cluster().await;
    let proxy = RedisProxy::start(&setup.servers().redis.address(), cut).await;
    let setup = setup.redis_through(proxy.address());
    let mut trial = Trial::begin_unseen(name, setup).await;
    for round in 1..=ROUNDS {
        proxy.arm(IN_A_ROW);
        wait_until("the proxy has cut", SOON, || async {
            holds(proxy.cuts() == round * IN_A_ROW, || format!("{} cuts", proxy.cuts()))
        })
        .await;
        trial.fault(IN_A_ROW);
        trial.load.more(500).await;
    }
    trial.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_connection_dies_before_it_is_done_again() {
    commits_cut("the connection dies before the COMMIT", Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let tally = commits_cut("the connection dies after the COMMIT", Cut::After).await;
    assert!(tally.skipped >= ROUNDS * IN_A_ROW, "each batch is skipped by its receipts: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_connection_dies_before_it_is_done_again() {
    appends_cut("the connection dies before the append", Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_counts_once() {
    let tally = appends_cut("the connection dies after the append", Cut::After).await;
    assert!(tally.skipped > 0, "the second entry is skipped by its receipt: {tally}");
}
