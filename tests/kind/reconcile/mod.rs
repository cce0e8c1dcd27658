//! What the operator does by itself: it makes what is asked for, changes what must change and nothing
//! else, puts back what others change, and says what is wrong.

mod absent;
mod admission;
mod deletion;
mod drift;
mod external;
mod images;
mod neighbours;
mod partition;
mod rolls;
mod rotation;
mod security;
mod steady;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl};
use crate::support::objects::{Namespace, SOON};
use crate::support::trial::NAME;

/// Selects everything that belongs to the resource.
const OF_RESOURCE: &str = "app.kubernetes.io/instance=shop";
/// The kinds of objects that the operator makes and puts back.
const MADE: &str = "serviceaccounts,configmaps,networkpolicies,services,poddisruptionbudgets,statefulsets,deployments";
const COMPONENT: &str = "app.kubernetes.io/component";

/// Objects by `Kind/name`.
type Objects = BTreeMap<String, Value>;
/// Ids of the running containers, by part of the resource.
type Containers = BTreeMap<String, BTreeSet<String>>;

/// `kubectl` in a namespace; it must succeed.
async fn kubectl_in(namespace: &Namespace, args: &[&str]) -> String {
    let args: Vec<String> = ["-n", &namespace.name].iter().chain(args).map(|&arg| arg.to_owned()).collect();
    blocking(move || kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>())).await
}

/// Objects of these kinds, of the whole namespace or as `selection` limits them.
async fn objects(namespace: &Namespace, kinds: &str, selection: &[&str]) -> Objects {
    let args = [["get", kinds, "-o", "json", "--show-managed-fields"].as_slice(), selection].concat();
    let list: Value = serde_json::from_str(&kubectl_in(namespace, &args).await).expect("a list");
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| format!("{}/{}", text(item, "/kind"), text(item, "/metadata/name"));
    items.into_iter().map(|item| (name(&item), item)).collect()
}

/// A text in an object; empty when there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What somebody asked for: an object without what the cluster itself writes.
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

/// Containers that run for the resource.
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

/// The parts all of whose containers are others now. A part is replaced whole or not at all.
fn replaced(before: &Containers, after: &Containers) -> Vec<String> {
    assert!(before.keys().eq(after.keys()), "{before:#?}\n{after:#?}");
    let others = before.iter().filter(|(part, ids)| after[*part] != **ids);
    let whole = |(part, ids): (&String, &BTreeSet<String>)| {
        assert!(ids.is_disjoint(&after[part]), "{part} is replaced in part: {ids:#?}\n{:#?}", after[part]);
        part.clone()
    };
    others.map(whole).collect()
}

/// Waits until a condition has this status and its reason or message contains `word`; answers both.
async fn says(namespace: &Namespace, condition: &str, status: &str, word: &str) -> (String, String) {
    wait_until(&format!("{NAME} has {condition}={status} and says {word:?}"), SOON, || async {
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

/// Waits until nothing of the resource is left of these kinds.
async fn gone(namespace: &Namespace, kinds: &str) {
    wait_until(&format!("no {kinds} of {NAME} are left"), SOON, || async {
        let left = kubectl_in(namespace, &["get", kinds, "-l", OF_RESOURCE, "-o", "name"]).await;
        holds(left.is_empty(), || left)
    })
    .await;
}
