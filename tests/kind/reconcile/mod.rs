//! Reconciliation: the operator creates the desired objects, changes only what must change, reverts
//! drift, and reports what is wrong.

mod absent;
mod admission;
mod again;
mod auth;
mod deletion;
mod drift;
mod external;
mod hibernation;
mod images;
mod neighbours;
mod partition;
mod paused;
mod rolls;
mod rotation;
mod security;
mod sets;
mod steady;
mod taken;
mod tls;
mod tls_switch;
mod unreadable;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::objects::{Namespace, SOON, kubectl_in};
use crate::support::trial::NAME;

/// The label selector of all objects that belong to the resource.
const OF_RESOURCE: &str = "app.kubernetes.io/instance=shop";
/// The kinds of objects that the operator creates, and whose drift it reverts.
const MADE: &str = "serviceaccounts,configmaps,networkpolicies,services,poddisruptionbudgets,statefulsets,deployments";
const COMPONENT: &str = "app.kubernetes.io/component";

/// Objects by `Kind/name`.
type Objects = BTreeMap<String, Value>;
/// Names of pods with the ids of their containers, by component of the resource.
type Containers = BTreeMap<String, BTreeSet<String>>;

/// Returns the objects of these kinds in a namespace, limited by the options in `selection`.
async fn objects(namespace: &Namespace, kinds: &str, selection: &[&str]) -> Objects {
    let args = [["get", kinds, "-o", "json", "--show-managed-fields"].as_slice(), selection].concat();
    let list: Value = serde_json::from_str(&kubectl_in(namespace, &args).await).expect("a list");
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| format!("{}/{}", text(item, "/kind"), text(item, "/metadata/name"));
    items.into_iter().map(|item| (name(&item), item)).collect()
}

/// Returns the string at a JSON pointer, or an empty one if there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the desired content of an object: without its status, and without the metadata that the cluster
/// writes.
fn asked(object: &Value) -> Value {
    let mut asked = object.clone();
    if let Some(fields) = asked.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = asked["metadata"].as_object_mut() {
        for written in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
            metadata.remove(written);
        }
    }
    if let Some(annotations) = asked["metadata"]["annotations"].as_object_mut() {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    asked
}

/// Returns the containers of the resource, without those of terminating pods.
async fn containers(namespace: &Namespace) -> Containers {
    let pods = namespace.pods().list(&ListParams::default().labels(OF_RESOURCE)).await.expect("pods");
    let mut containers = Containers::new();
    for pod in pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
        let ids = statuses.into_iter().filter_map(|status| status.container_id);
        let part = pod.labels().get(COMPONENT).cloned().unwrap_or_default();
        containers.entry(part).or_default().extend(ids.map(|id| format!("{} {id}", pod.name_any())));
    }
    containers
}

/// Returns the components whose containers have been replaced. Panics if only some containers of a component
/// have been replaced.
fn replaced(before: &Containers, after: &Containers) -> Vec<String> {
    assert!(before.keys().eq(after.keys()), "{before:#?}\n{after:#?}");
    let others = before.iter().filter(|(part, ids)| after[*part] != **ids);
    let whole = |(part, ids): (&String, &BTreeSet<String>)| {
        assert!(ids.is_disjoint(&after[part]), "{part} is partly replaced: {ids:#?}\n{:#?}", after[part]);
        part.clone()
    };
    others.map(whole).collect()
}

/// Waits until a condition has this status and its reason or message contains `word`. Returns the reason and the
/// message.
async fn says(namespace: &Namespace, condition: &str, status: &str, word: &str) -> (String, String) {
    wait_until(&format!("{NAME} has {condition}={status} and mentions {word:?}"), SOON, || async {
        let resource = namespace.resource(NAME).await;
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|found| found["type"] == condition).cloned().unwrap_or_default();
        let (reason, message) = (text(&found, "/reason").to_owned(), text(&found, "/message").to_owned());
        let current = found["observedGeneration"] == resource["metadata"]["generation"];
        let told = reason.contains(word) || message.contains(word);
        holds(current && found["status"] == status && told, || format!("{conditions:#?}")).map(|()| (reason, message))
    })
    .await
}

/// Waits until the resource has no objects of these kinds any more.
async fn gone(namespace: &Namespace, kinds: &str) {
    wait_until(&format!("no {kinds} of {NAME} are left"), SOON, || async {
        let left = kubectl_in(namespace, &["get", kinds, "-l", OF_RESOURCE, "-o", "name"]).await;
        holds(left.is_empty(), || left)
    })
    .await;
}
