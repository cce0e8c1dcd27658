//! The responses of a system that cannot accept more events.

use sluice_tests::system::CATCH_UP;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, wait_until};

use crate::common::events;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_backlog_is_answered_429_until_it_is_worked_off() {
    let setup = Setup::new(Backend::RedisPostgres).publisher("--max-backlog", "500");
    let system = setup.start().await;
    system.aggregators[0].freeze();
    let mut accepted = 0;
    let refused = loop {
        let answer = system.client.publish_raw(events("t", accepted..accepted + 100).to_string()).await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 100;
        assert!(accepted <= 100_000, "the publisher does not refuse events");
    };
    refused.assert_problem(429, "backlog_full");
    let wait = refused.headers["retry-after"].to_str().unwrap().parse::<u64>();
    assert!(wait.is_ok_and(|seconds| (1..=60).contains(&seconds)), "{:?}", refused.headers);
    assert!(accepted >= 500, "{accepted}");

    system.aggregators[0].thaw();
    wait_until("the publisher accepts events again", CATCH_UP, || async {
        let answer = system.client.publish_raw(events("t", accepted..accepted + 100).to_string()).await;
        holds(answer.status == 202, || answer.text)
    })
    .await;
    let snapshot = system.wait_until_stored(accepted + 100).await;
    assert_eq!(snapshot.rows as u64, accepted + 100, "no refused event is stored");
}
