//! The number of aggregators changes while events flow.

use std::time::Instant;

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::kubectl;
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, is_ready, kubectl_in};
use crate::support::trial::{NAME, Stage, Trial, small};

/// Scales the resource with `kubectl scale`, and waits until it is Ready.
async fn scale(namespace: &Namespace, replicas: usize) {
    let own = namespace.name.clone();
    let scale = move || {
        kubectl(&["-n", &own, "scale", "eventaggregators.sluice.dev/shop", &format!("--replicas={replicas}")]);
    };
    tokio::task::spawn_blocking(scale).await.expect("scaled");
    namespace.ready(NAME).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), replicas, "Ready means that this many run");
}

/// Returns the names of the first `count` aggregators.
fn replicas(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shop-aggregator-{number}")).collect()
}

/// Waits until the consumers of the group are exactly the first `count` replicas.
async fn consumers_are(trial: &Trial, count: usize) {
    wait_until(&format!("the group has {count} consumers"), SOON, || async {
        let consumers = trial.consumers().await;
        holds(consumers == replicas(count), || format!("{consumers:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_come_and_go_while_events_flow() {
    let mut trial = Trial::begin("scale 1 → 5 → 2", "scale", 1).await;
    let namespace = trial.namespace().clone();
    trial.load(Load { events: 54_000, ..Load::default() }).await;

    scale(&namespace, 5).await;
    let mut shares = Vec::new();
    for replica in replicas(5) {
        wait_until(&format!("{replica} has committed events"), SOON, || async {
            let events = trial.received_by(&replica).await;
            holds(events > 0, || format!("{events}"))
        })
        .await;
        shares.push(trial.received_by(&replica).await.to_string());
    }
    trial.note(format!("committed by each of 5: {}", shares.join(" ")));

    // A replica that terminates commits its entries in flight, or the other replicas claim them.
    let held = trial.hold().await;
    let own = namespace.name.clone();
    let fewer = move || kubectl(&["-n", &own, "scale", "eventaggregators.sluice.dev/shop", "--replicas=2"]);
    tokio::task::spawn_blocking(fewer).await.expect("scaled");
    held.release();
    trial.fault(held.pending);
    namespace.ready(NAME).await;
    consumers_are(&trial, 2).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 2);
    trial.more(1).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_beside_one_are_measured() {
    const EVENTS: u32 = 30_000;
    let mut trial = Trial::with("throughput of 1 and 4 replicas", Stage::alone("throughput").await, small(1)).await;
    let namespace = trial.namespace().clone();
    let mut so_far = 0;
    for count in [1, 4] {
        scale(&namespace, count).await;
        trial.send(Load { verify: false, concurrency: 16, ..Load::fast(EVENTS) }).await;
        trial.stored(so_far + 1).await;
        let began = Instant::now();
        so_far += i64::from(EVENTS);
        trial.stored(so_far).await;
        let rate = f64::from(EVENTS) / began.elapsed().as_secs_f64();
        trial.note(format!("{count} replicas: {rate:.0} events/s"));
    }
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_replicas_the_backlog_is_kept() {
    const EVENTS: u32 = 20_000;
    let mut trial = Trial::begin("scale 2 → 0 → 2", "zero", 2).await;
    let namespace = trial.namespace().clone();
    scale(&namespace, 0).await;
    consumers_are(&trial, 0).await;
    trial.send(Load::fast(EVENTS)).await;
    wait_until("the status reports the backlog", SOON, || async {
        let status = namespace.resource(NAME).await["status"].clone();
        holds(status["backlog"] == EVENTS, || status.to_string())
    })
    .await;
    assert_eq!(trial.snapshot().await.received, 0, "no replica ran that could store events");
    let waiting = trial.lag().await.expect("the lag is known");
    trial.fault(waiting);
    scale(&namespace, 2).await;
    let tally = trial.end().await;
    assert_eq!(tally.accepted, u64::from(EVENTS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscaling_follows_the_backlog_up_and_down() {
    let mut spec = small(1);
    spec["aggregator"]["autoscaling"] =
        json!({ "minReplicas": 1, "maxReplicas": 3, "targetBacklog": 3_000, "stabilizationSeconds": 15 });
    let mut trial = Trial::with("autoscaling 1 → 3 → 1", Stage::shared("autoscaling").await, spec).await;
    let namespace = trial.namespace().clone();
    // Only loads that end are started, and no continuous flow, so that the backlog can become empty.
    trial.send(Load::default()).await;
    trial.stored(1).await;
    // No replica can store anything, not even a new one. So the backlog grows, and remains until three
    // replicas have been observed.
    let lock = trial.lock().await;
    trial.send(Load::fast(20_000)).await;
    let grown = running(&namespace, 3).await;
    lock.holds_up_any().await;
    trial.fault(trial.pending().await);
    lock.release().await;
    trial.note(format!("1 → 3 replicas in {grown:.0} s"));
    let shrunk = running(&namespace, 1).await;
    trial.note(format!("3 → 1 in {shrunk:.0} s"));
    consumers_are(&trial, 1).await;
    trial.end().await;
}

/// Waits until `count` aggregators are desired and running, and returns the seconds that this took.
pub(crate) async fn running(namespace: &Namespace, count: usize) -> f64 {
    let began = Instant::now();
    wait_until(&format!("{count} replicas by autoscaling"), SOON, || async {
        let pods = namespace.pods_of(NAME, "aggregator").await.len();
        let status = namespace.resource(NAME).await["status"].clone();
        holds(pods == count && status["desiredReplicas"] == count, || format!("{pods} pods, {status}"))
    })
    .await;
    began.elapsed().as_secs_f64()
}

/// Waits until `count` publishers are running and the resource is Ready.
async fn publishers_are(namespace: &Namespace, count: usize) {
    wait_until(&format!("{count} publishers"), SOON, || async {
        let pods = namespace.pods_of(NAME, "publisher").await;
        holds(pods.len() == count && pods.iter().all(is_ready), || format!("{} pods", pods.len()))
    })
    .await;
    namespace.ready(NAME).await;
}

/// Metrics of pods are not needed: below its minimum, an autoscaler adds pods without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_a_horizontal_pod_autoscaler_scales_are_left_to_it() {
    let mut trial = Trial::begin("publishers 1 → 3 → 1 by an autoscaler", "publishers", 1).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    publishers_are(&namespace, 1).await;
    let held = trial.hold().await;
    kubectl_in(&namespace, &["autoscale", "deployment", "shop-publisher", "--min=3", "--max=4", "--cpu-percent=80"])
        .await;
    held.release();
    trial.fault(held.pending);
    publishers_are(&namespace, 3).await;

    // The operator applies the Deployment again, and does not set the number back.
    namespace.patch(NAME, json!({ "spec": { "publisher": { "limits": { "maxEvents": 777 } } } })).await;
    wait_until("the limit has been applied", SOON, || async {
        let limit = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='SLUICE_MAX_EVENTS')].value}";
        let found = kubectl_in(&namespace, &["get", "deployment", "shop-publisher", "-o", limit]).await;
        holds(found == "777", || format!("{found:?}"))
    })
    .await;
    let asked = "jsonpath={.spec.replicas}";
    assert_eq!(kubectl_in(&namespace, &["get", "deployment", "shop-publisher", "-o", asked]).await, "3");
    publishers_are(&namespace, 3).await;

    kubectl_in(&namespace, &["delete", "horizontalpodautoscaler", "shop-publisher"]).await;
    namespace.patch(NAME, json!({ "spec": { "publisher": { "limits": { "maxEvents": 888 } } } })).await;
    publishers_are(&namespace, 1).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_are_scaled_by_the_autoscaler_that_the_operator_makes() {
    let mut trial = Trial::begin("publishers 1 → 3 → 1 by the operator's autoscaler", "own-autoscaler", 1).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    publishers_are(&namespace, 1).await;
    let held = trial.hold().await;
    let scaling = json!({ "minReplicas": 3, "maxReplicas": 4 });
    namespace.patch(NAME, json!({ "spec": { "publisher": { "autoscaling": scaling } } })).await;
    held.release();
    trial.fault(held.pending);
    publishers_are(&namespace, 3).await;

    // The number of the autoscaler stays when it differs from the minimum.
    namespace.patch(NAME, json!({ "spec": { "publisher": { "autoscaling": { "minReplicas": 2 } } } })).await;
    namespace.ready(NAME).await;
    publishers_are(&namespace, 3).await;
    let minimum = "jsonpath={.spec.minReplicas}";
    let found = kubectl_in(&namespace, &["get", "horizontalpodautoscaler", "shop-publisher", "-o", minimum]).await;
    assert_eq!(found, "2");

    namespace.patch(NAME, json!({ "spec": { "publisher": { "autoscaling": null } } })).await;
    publishers_are(&namespace, 1).await;
    let left = kubectl_in(&namespace, &["get", "horizontalpodautoscalers", "-o", "name"]).await;
    assert_eq!(left, "");
    trial.end().await;
}
