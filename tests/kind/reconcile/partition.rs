//! Network partitions between pods.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;
use std::time::Instant;

use super::says;
use crate::support::cluster::on_node;
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, is_ready, node_of};
use crate::support::trial::{NAME, Trial};

const ONE: &str = "shop-aggregator-1";

/// While this exists, packets between certain pods are dropped in both directions.
struct Partition {
    /// Nodes, and the iptables rule on each.
    rules: Vec<(String, String)>,
}

impl Partition {
    /// Drops the packets between each of these pods and a server. The rules are on the node of the pod: all
    /// its packets pass there with the addresses of both pods, because the address of a Service has already been
    /// translated.
    fn between(pods: &[Pod], server: &Pod) -> Self {
        let mut partition = Self { rules: Vec::new() };
        for pod in pods {
            for (from, to) in [(pod, server), (server, pod)] {
                let rule = format!("FORWARD -s {} -d {} -j DROP", address(from), address(to));
                partition.rules.push((node_of(pod).to_owned(), rule.clone()));
                on_node(node_of(pod), &["sh", "-c", &format!("iptables -w -I {rule}")]);
            }
        }
        partition
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        for (node, rule) in &self.rules {
            on_node(node, &["sh", "-c", &format!("iptables -w -D {rule} || true")]);
        }
    }
}

fn address(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).expect("a pod that runs has an address")
}

/// Waits until the readiness of a pod is `ready`.
async fn is(namespace: &Namespace, pod: &str, ready: bool) {
    wait_until(&format!("{pod} is ready: {ready}"), SOON, || async {
        let pod = namespace.pods().get(pod).await.map_err(|error| error.to_string())?;
        holds(is_ready(&pod) == ready, || format!("{:?}", pod.status))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregators_that_are_cut_off_from_redis_or_postgres_go_on_when_the_network_heals() {
    let mut trial = Trial::begin("partition from Redis, then from Postgres", "partition", 2).await;
    let namespace = trial.namespace().clone();
    let server = |part: &str| format!("{NAME}-{part}-0");

    trial.load(Load { events: 24_000, rate: 600, ..Load::default() }).await;
    let (redis, one) = (namespace.pod(&server("redis")).await, namespace.pod(ONE).await);
    let held = trial.hold_of(ONE).await;
    let partition = Partition::between(std::slice::from_ref(&one), &redis);
    held.release();
    trial.fault(held.pending);
    is(&namespace, ONE, false).await;
    // At first the pod may not respond to the operator in time; then it names the log as the reason.
    let (_, message) = says(&namespace, "AggregatorReady", "False", "log").await;
    assert!(message.contains(ONE), "{message:?} does not name the pod");
    // The other aggregator claims its entries.
    trial.more(1_000).await;
    trial.send(Load { events: 6_000, rate: 300, ..Load::default() }).await;
    drop(partition);
    let healed = Instant::now();
    is(&namespace, ONE, true).await;
    let took = trial.next_commit_of(ONE, healed).await;
    trial.note(format!("{ONE} commits {:.1} s after Redis is back", took.as_secs_f64()));

    trial.load(Load { events: 18_000, rate: 600, ..Load::default() }).await;
    let aggregators = namespace.pods_of(NAME, "aggregator").await;
    let postgres = namespace.pod(&server("postgres")).await;
    let held = trial.hold().await;
    let partition = Partition::between(&aggregators, &postgres);
    held.release();
    trial.fault(held.pending);
    for pod in &aggregators {
        is(&namespace, &pod.name_any(), false).await;
    }
    let before = trial.snapshot().await;
    let (_, message) = says(&namespace, "Ready", "False", "store").await;
    assert!(message.starts_with("AggregatorReady"), "{message}");
    assert_eq!(trial.snapshot().await, before, "nothing is stored without a connection to Postgres");
    drop(partition);
    let healed = Instant::now();
    trial.more(1).await;
    trial.note(format!("events flow {:.1} s after Postgres is back", healed.elapsed().as_secs_f64()));
    trial.end().await;
}
