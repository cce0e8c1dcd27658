//! A paused resource: nothing is changed, and what was asked for meanwhile is done afterwards.

use std::time::Duration;

use serde_json::json;

use super::{containers, kubectl_in};
use crate::support::load::Load;
use crate::support::trial::{NAME, Trial};

/// How long the test watches that the operator changes nothing. An operator that ignored `paused` would take less than
/// a second, because it is told of each change.
const STILL: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_resource_is_left_alone_under_load_and_changed_when_it_goes_on() {
    let mut trial = Trial::begin("paused, changed, and unpaused", "paused", 1).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let before = containers(&namespace).await;
    namespace.patch(NAME, json!({ "spec": { "paused": true } })).await;
    assert_eq!(namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");

    let change = json!({ "spec": { "aggregator": { "replicas": 2, "workers": 3 }, "publisher": { "replicas": 2 } } });
    namespace.patch(NAME, change).await;
    assert_eq!(namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");
    kubectl_in(&namespace, &["delete", "poddisruptionbudget", "shop-aggregator"]).await;
    kubectl_in(&namespace, &["label", "service", "shop-redis", "app.kubernetes.io/component=cache", "--overwrite"])
        .await;
    tokio::time::sleep(STILL).await;
    assert_eq!(containers(&namespace).await, before, "a paused operator replaces, adds and removes no container");
    let left = kubectl_in(&namespace, &["get", "poddisruptionbudgets", "-o", "name"]).await;
    assert!(!left.contains("/shop-aggregator"), "a deleted object is not made again: {left}");
    trial.more(500).await;

    let held = trial.hold().await;
    namespace.patch(NAME, json!({ "spec": { "paused": false } })).await;
    held.release();
    trial.fault(held.pending);
    namespace.ready(NAME).await;
    for (component, expected) in [("aggregator", 2), ("publisher", 2)] {
        assert_eq!(namespace.pods_of(NAME, component).await.len(), expected, "{component}");
    }
    assert_eq!(namespace.variable("shop-aggregator", "SLUICE_WORKERS").await, "3");
    kubectl_in(&namespace, &["get", "poddisruptionbudget", "shop-aggregator"]).await;
    let component = "jsonpath={.metadata.labels.app\\.kubernetes\\.io/component}";
    assert_eq!(kubectl_in(&namespace, &["get", "service", "shop-redis", "-o", component]).await, "redis");
    trial.end().await;
}
