//! The data of a deleted resource: retained or deleted, according to its `deletionPolicy`.

use kube::api::DeleteParams;
use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{MADE, OF_RESOURCE, Objects, gone, kubectl_in, objects, text};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::{NAME, Stage, Trial, create, small};

/// The kinds of objects that hold data and passwords.
const KEPT: &str = "secrets,persistentvolumeclaims";

async fn kept(namespace: &Namespace) -> Objects {
    objects(namespace, KEPT, &["-l", OF_RESOURCE]).await
}

/// Returns the names with their uids, which show whether the objects are the same ones.
fn identities(objects: &Objects) -> Vec<(&str, &str)> {
    objects.iter().map(|(name, object)| (name.as_str(), text(object, "/metadata/uid"))).collect()
}

async fn delete(namespace: &Namespace) {
    namespace.resources().delete(NAME, &DeleteParams::default()).await.expect("the resource is deleted");
    gone(namespace, &format!("pods,{MADE}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_resource_keeps_its_data_for_the_next_of_its_name_unless_it_says_delete() {
    let mut trial = Trial::begin("resource deleted and made again", "retain", 1).await;
    let namespace = trial.namespace().clone();
    trial.send(Load::fast(5_000)).await;
    let first = trial.end().await;
    let before = kept(&namespace).await;
    assert_eq!(before.len(), 4, "two passwords and two volumes: {:?}", before.keys());

    delete(&namespace).await;
    let left = kept(&namespace).await;
    assert_eq!(identities(&left), identities(&before), "passwords and volumes are retained");
    for (name, object) in &left {
        assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null, "{name}: {:#}", object["metadata"]);
        assert_eq!(object["metadata"]["ownerReferences"], Value::Null, "{name}: {:#}", object["metadata"]);
    }

    create(&namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    let again = kept(&namespace).await;
    assert_eq!(identities(&again), identities(&before));
    for name in ["Secret/shop-redis", "Secret/shop-postgres"] {
        assert_eq!(again[name]["data"], before[name]["data"], "{name} is the same password");
    }
    assert_eq!(trial.snapshot().await, first.end, "rows and counters are those of the first resource");
    wait_until("the status has the totals of the first resource", SOON, || async {
        let status = namespace.resource(NAME).await["status"].clone();
        holds(status["totals"]["received"] == first.end.received, || format!("{status:#}"))
    })
    .await;
    trial.log_in().await;
    trial.send(Load::fast(2_000)).await;
    trial.fault_elsewhere();
    trial.note("created again".to_owned());
    trial.end().await;

    namespace.patch(NAME, json!({ "spec": { "deletionPolicy": "Delete" } })).await;
    in_force(&namespace, "Delete").await;
    assert_owners(&kept(&namespace).await, &["EventAggregator"]);
    delete(&namespace).await;
    gone(&namespace, KEPT).await;
}

/// Waits until the status says that this policy is in force.
async fn in_force(namespace: &Namespace, policy: &str) {
    wait_until(&format!("deletionPolicy {policy} is in force"), SOON, || async {
        let status = namespace.resource(NAME).await["status"].clone();
        holds(status["deletionPolicy"] == policy, || format!("{status:#}"))
    })
    .await;
}

/// Asserts that the owners of all these objects are of these kinds.
fn assert_owners(objects: &Objects, kinds: &[&str]) {
    for (name, object) in objects {
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let owners: Vec<_> = owners.iter().map(|owner| text(owner, "/kind")).collect();
        assert_eq!(owners, kinds, "{name}: {:#}", object["metadata"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_policy_holds_for_the_resource_alone_and_while_it_is_paused() {
    let mut spec = small(1);
    spec["deletionPolicy"] = json!("Delete");
    let stage = Stage::shared("policy").await;
    let mut trial = Trial::with("StatefulSet deleted under deletionPolicy Delete", stage, spec).await;
    let namespace = trial.namespace().clone();
    in_force(&namespace, "Delete").await;
    trial.send(Load::fast(5_000)).await;
    let first = trial.end().await;
    let before = kept(&namespace).await;
    assert_eq!(before.len(), 4, "two passwords and two volumes: {:?}", before.keys());
    assert_owners(&before, &["EventAggregator"]);

    // Only the StatefulSet is deleted, with its pod. The operator creates it again on the same volume.
    let pod = namespace.pod("shop-postgres-0").await;
    kubectl_in(&namespace, &["delete", "statefulset", "shop-postgres", "--wait=false"]).await;
    namespace.restarted_pod(&pod).await;
    namespace.ready(NAME).await;
    assert_eq!(identities(&kept(&namespace).await), identities(&before), "volumes and passwords are the same ones");
    assert_eq!(trial.snapshot().await, first.end, "rows and counters have survived the StatefulSet");

    namespace.patch(NAME, json!({ "spec": { "paused": true } })).await;
    assert_eq!(namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");
    namespace.patch(NAME, json!({ "spec": { "deletionPolicy": "Retain" } })).await;
    in_force(&namespace, "Retain").await;
    delete(&namespace).await;
    let left = kept(&namespace).await;
    assert_eq!(identities(&left), identities(&before), "passwords and volumes are retained");
    assert_owners(&left, &[]);
    for (name, object) in &left {
        assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null, "{name}: {:#}", object["metadata"]);
    }
}
