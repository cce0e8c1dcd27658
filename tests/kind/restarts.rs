//! Each component is killed or deleted while events flow.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sluice_tests::wait::holds;
use sluice_tests::{Client, metrics, wait_until};

use crate::support::cluster::kubectl;
use crate::support::forward::Forward;
use crate::support::load::Load;
use crate::support::node::Process;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Trial};

const ONE: &str = "shop-aggregator-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_aggregator_pod_is_replaced_and_commits_again() {
    let mut trial = Trial::begin("aggregator pod deleted", "pod-deleted", 3).await;
    trial.load(Load::default()).await;
    let namespace = trial.namespace().clone();
    let before = namespace.pod(ONE).await;
    let held = trial.hold_of(ONE).await;
    namespace.delete_pod(ONE).await;
    let deleted = Instant::now();
    held.release();
    trial.fault(held.pending);
    wait_until("a new pod has the same name", SOON, || async {
        let uid = namespace.pods().get(ONE).await.map_err(|error| error.to_string())?.uid();
        holds(uid != before.uid(), || "it is still the old pod".to_owned())
    })
    .await;
    let took = trial.next_commit_of(ONE, deleted).await;
    trial.note(format!("from deletion to its next commit {:.1} s", took.as_secs_f64()));
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_aggregator_finds_what_it_held() {
    let mut trial = Trial::begin("aggregator kill -9", "kill-one", 3).await;
    trial.load(Load::default()).await;
    for _ in 0..2 {
        let before = trial.namespace().pod(ONE).await;
        let process = Process::of(&before);
        let held = trial.hold_of(ONE).await;
        process.kill();
        held.release();
        trial.fault(held.pending);
        trial.namespace().restarted_pod(&before).await;
    }
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_aggregators_killed_at_once_go_on_where_they_were() {
    let mut trial = Trial::begin("all aggregators kill -9 at once", "kill-all", 3).await;
    trial.load(Load::default()).await;
    let before = trial.namespace().pods_of(NAME, "aggregator").await;
    let held = trial.hold().await;
    held.kill();
    trial.fault(held.pending);
    for pod in &before {
        trial.namespace().restarted_pod(pod).await;
    }
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_publisher_answers_every_request_once() {
    let mut trial = Trial::begin("publisher rolled, then kill -9", "publisher", 2).await;
    trial.load(Load { concurrency: 16, ..Load::default() }).await;
    let namespace = trial.namespace().clone();
    let held = trial.hold().await;
    kubectl(&["-n", &namespace.name, "rollout", "restart", "deployment/shop-publisher"]);
    held.release();
    trial.fault(held.pending);
    kubectl(&["-n", &namespace.name, "rollout", "status", "deployment/shop-publisher", "--timeout=10m"]);

    trial.load(Load { concurrency: 16, rate: 3_000, ..Load::default() }).await;
    let before = namespace.pods_of(NAME, "publisher").await.pop().expect("a publisher");
    let process = Process::of(&before);
    let redis = Process::of(&namespace.pod("shop-redis-0").await);
    let held = trial.hold().await;
    // While Redis is stopped, no request gets a response. So the kill interrupts requests that are in flight.
    redis.stop();
    requests_wait(&namespace, &before).await;
    process.kill();
    redis.resume();
    held.release();
    trial.fault(held.pending);
    namespace.restarted_pod(&before).await;
    let tally = trial.end().await;
    assert!(tally.repeats > 0, "no request was repeated, so none was in flight when the publisher was killed; {tally}");
}

/// Waits until the publisher has requests in flight.
async fn requests_wait(namespace: &Namespace, publisher: &Pod) {
    let forward = Forward::start(&namespace.client, &namespace.name, &publisher.name_any(), 8080).await;
    let client = Client::new(&format!("http://{}", forward.address()));
    wait_until("requests wait in the publisher", SOON, || async {
        let answer = client.try_send(client.request("GET", "/metrics")).await.map_err(|error| error.to_string())?;
        let waiting = metrics::sum(&answer.text, "sluice_publish_waiting_requests");
        holds(waiting > 0.0, || format!("{waiting} requests wait"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_nothing_that_was_answered() {
    server("Redis kill -9", "redis-kill", "shop-redis-0", Disruption::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_redis_pod_comes_back_with_its_stream() {
    server("Redis pod deleted", "redis-deleted", "shop-redis-0", Disruption::Delete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_keeps_what_was_committed_and_gets_the_rest_again() {
    server("Postgres kill -9", "postgres-kill", "shop-postgres-0", Disruption::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_postgres_pod_comes_back_with_its_rows() {
    server("Postgres pod deleted", "postgres-deleted", "shop-postgres-0", Disruption::Delete).await;
}

/// What happens to the server.
#[derive(Clone, Copy)]
enum Disruption {
    Kill,
    Delete,
}

/// Kills a server, or deletes its pod, while entries are in flight, and waits until events flow again. A killed process
/// loses nothing that it has written, synced or not, so the settings that a power cut depends on are compared too.
async fn server(name: &'static str, slug: &str, pod: &str, disruption: Disruption) {
    let mut trial = Trial::begin(name, slug, 2).await;
    trial.assert_durable().await;
    trial.load(Load::default()).await;
    let before = trial.namespace().pod(pod).await;
    let process = Process::of(&before);
    let held = trial.hold().await;
    match disruption {
        Disruption::Kill => process.kill(),
        Disruption::Delete => trial.namespace().delete_pod(pod).await,
    }
    let gone = Instant::now();
    held.release();
    trial.fault(held.pending);
    trial.namespace().restarted_pod(&before).await;
    trial.assert_durable().await;
    trial.more(1).await;
    trial.note(format!("events flow again after {:.1} s", gone.elapsed().as_secs_f64()));
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}
