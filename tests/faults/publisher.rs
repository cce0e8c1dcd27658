//! The publisher is killed.

use sluice_tests::proxy::Cut;
use sluice_tests::proxy::redis::RedisProxy;
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Setup, wait_until};

use crate::trial::{SOON, Trial, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_publisher_loses_no_request_and_counts_none_twice() {
    let setup = cluster().await;
    let proxy = RedisProxy::start(&setup.servers().redis.address(), Cut::After).await;
    let mut trial = Trial::begin("kill -9 of the publisher", setup.redis_through(proxy.address())).await;
    for _ in 0..5 {
        // Some requests are on disk, but the publisher has not received the response of Redis yet, and more
        // requests follow. So some requests have no response, and their clients repeat them, however fast the
        // machine is.
        proxy.hold_responses();
        let load = &trial.load;
        wait_until("requests are on disk and without a response", SOON, || async {
            let (held, in_flight) = (proxy.held(), load.in_flight());
            holds(held > 0 && in_flight >= 4, || format!("{held} responses held, {in_flight} requests in flight"))
        })
        .await;
        trial.system.publisher.as_mut().unwrap().kill();
        let unanswered = trial.load.in_flight();
        proxy.lose_responses();
        trial.system.publisher.as_mut().unwrap().start().await;
        trial.fault(unanswered);
        trial.load.more(300).await;
    }
    let tally = trial.end().await;
    assert!(tally.repeats > 0, "{tally}");
    assert!(tally.skipped >= tally.faults, "a request of each kill is recognised by its receipt: {tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_without_redis_answers_503_and_stays_ready() {
    let setup = Setup::new(Backend::RedisPostgres).publisher("--append-timeout", "2s").own_servers().await;
    let mut system = setup.start().await;
    system.client.publish(&serde_json::json!({"id": "before", "payload": 1})).await;
    system.wait_until_stored(1).await;

    system.servers.as_mut().unwrap().redis.kill();
    let answer = system.client.publish_raw(r#"{"id":"during","payload":1}"#).await;
    answer.assert_problem(503, "log_unavailable");
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().is_ok_and(|s| s >= 1));
    system.client.get("/readyz").await.assert_status(200);
    system.client.get("/events").await.assert_status(200);
    let aggregator = sluice_tests::Client::new(&system.aggregators[0].base());
    wait_until("the aggregator reports that it is not ready", SOON, || async {
        let answer = aggregator.get("/readyz").await;
        holds(answer.status == 503, || answer.text)
    })
    .await;
    aggregator.get("/healthz").await.assert_status(200);

    system.servers.as_mut().unwrap().redis.start_again();
    wait_until("the publisher accepts events again", SOON, || async {
        let answer = system.client.publish_raw(r#"{"id":"after","payload":1}"#).await;
        holds(answer.status == 202, || answer.text)
    })
    .await;
    // The request without a response may have been accepted or not. The others were accepted.
    let end = system.wait_until_stored_at_least(2).await;
    assert!(end.fault().is_none() && (2..=3).contains(&end.rows), "{end:?}");
    for program in system.programs() {
        program.ready().await;
    }
}
