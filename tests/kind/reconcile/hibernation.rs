//! A resource that hibernates: no pod runs, everything that it holds stays, and it goes on later.

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{containers, kubectl_in};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Trial};

/// Returns the identities of the volume claims.
async fn claims(namespace: &Namespace) -> String {
    let uids = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{'\\n'}{end}";
    kubectl_in(namespace, &["get", "persistentvolumeclaims", "-o", uids]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_hibernates_under_load_and_wakes_has_every_event_once() {
    let mut trial = Trial::begin("hibernated and woken", "hibernate", 2).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let before = claims(&namespace).await;
    let held = trial.hold().await;
    namespace.patch(NAME, json!({ "spec": { "hibernated": true } })).await;
    held.release();
    trial.fault(held.pending);
    wait_until("the resource hibernates", SOON, || async {
        let (reason, message) = namespace.condition(NAME, "Ready", "False").await;
        holds(reason == "Hibernated", || format!("{reason}: {message}"))
    })
    .await;
    assert!(containers(&namespace).await.is_empty(), "no pod of the resource runs");
    assert_eq!(claims(&namespace).await, before, "the volumes stay");

    namespace.patch(NAME, json!({ "spec": { "hibernated": false } })).await;
    namespace.ready(NAME).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 2);
    trial.more(500).await;
    trial.end().await;
}
