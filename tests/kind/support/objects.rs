//! Functions that read objects of the cluster, change them and wait for their conditions.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::Value;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::cluster::{blocking, kubectl, kubectl_with};

/// The timeout for every condition that a test waits for. It allows for the start of pods on a slow machine.
pub const SOON: Duration = Duration::from_secs(420);

/// Returns the kind EventAggregator for the untyped API.
pub fn event_aggregator() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("sluice.dev", "v1alpha1", "EventAggregator"),
        "eventaggregators",
    )
}

/// A namespace and access to its objects.
#[derive(Clone)]
pub struct Namespace {
    /// The name of the namespace.
    pub name: String,
    /// The client for the API server.
    pub client: Client,
}

impl Namespace {
    /// Returns the API of its pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Returns the API of its EventAggregators.
    pub fn resources(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &event_aggregator())
    }

    /// Returns a resource as JSON.
    pub async fn resource(&self, name: &str) -> Value {
        let resource = self.resources().get(name).await.expect("the resource");
        serde_json::to_value(resource).expect("JSON")
    }

    /// Changes a resource like `kubectl patch --type=merge`.
    pub async fn patch(&self, name: &str, change: Value) {
        let patched = self.resources().patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.expect("the change is accepted");
    }

    /// Waits until a condition of the resource is of the current generation and has this status, and
    /// returns its reason and message.
    pub async fn condition(&self, name: &str, of: &str, status: &str) -> (String, String) {
        let what = format!("{name} has {of}={status}");
        wait_until(&what, SOON, || async {
            let resource = self.resources().get(name).await.map_err(|error| error.to_string())?;
            let generation = resource.metadata.generation;
            let conditions = resource.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|condition| condition["type"] == of).cloned().unwrap_or_default();
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            let current = found["observedGeneration"].as_i64() == generation;
            holds(current && found["status"] == status, || format!("generation {generation:?}: {found}"))
                .map(|()| (text("reason"), text("message")))
        })
        .await
    }

    /// Waits until the resource is Ready in its current generation.
    pub async fn ready(&self, name: &str) {
        self.condition(name, "Ready", "True").await;
    }

    /// Returns the pod of this name, which must exist.
    pub async fn pod(&self, name: &str) -> Pod {
        self.pods().get(name).await.unwrap_or_else(|error| panic!("pod {name}: {error}"))
    }

    /// Deletes a pod, and does not wait until it is gone.
    pub async fn delete_pod(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.expect("the pod is deleted");
    }

    /// Waits until the pod with the name of `before` is ready with another container, and returns it.
    pub async fn restarted_pod(&self, before: &Pod) -> Pod {
        let name = before.name_any();
        wait_until(&format!("{name} is ready with a new container"), SOON, || async {
            let pod = self.pods().get(&name).await.map_err(|error| error.to_string())?;
            let is_new = container_of(&pod) != container_of(before);
            holds(is_new && is_ready(&pod), || format!("new container: {is_new}, {:?}", pod.status)).map(|()| pod)
        })
        .await
    }

    /// Returns the pods of a component of a resource, sorted by name, without those that terminate.
    pub async fn pods_of(&self, resource: &str, component: &str) -> Vec<Pod> {
        let labels = format!("app.kubernetes.io/instance={resource},app.kubernetes.io/component={component}");
        let list = self.pods().list(&ListParams::default().labels(&labels)).await.expect("pods");
        let mut pods = list.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }

    /// Returns a value of a Secret.
    pub async fn secret(&self, name: &str, key: &str) -> String {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.name);
        let secret = api.get(name).await.unwrap_or_else(|error| panic!("Secret {name}: {error}"));
        let value = secret.data.unwrap_or_default().remove(key).unwrap_or_else(|| panic!("Secret {name} has no {key}"));
        String::from_utf8(value.0).expect("text")
    }

    /// Returns an environment variable in the pod template of a StatefulSet.
    pub async fn variable(&self, set: &str, name: &str) -> String {
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &self.name);
        let set = api.get(set).await.expect("the set");
        let containers = set.spec.and_then(|spec| spec.template.spec).map(|spec| spec.containers).unwrap_or_default();
        let variables = containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
        let found = variables.into_iter().find(|variable| variable.name == name).and_then(|variable| variable.value);
        found.unwrap_or_else(|| panic!("no variable {name}"))
    }

    /// Returns the log of a pod, or a text with the error.
    pub async fn log(&self, pod: &str) -> String {
        self.pods().logs(pod, &LogParams::default()).await.unwrap_or_else(|error| format!("no log: {error}"))
    }
}

/// Returns whether a pod has the condition Ready and is not terminating.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn container_of(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|all| all.first()?.container_id.as_deref())
}

/// Returns the name of the node that a pod runs on.
pub fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).expect("a pod that runs")
}

/// Returns an object of any kind, or null.
pub async fn object(namespace: &Namespace, kind: &str, name: &str) -> Value {
    let args = ["get", kind, name, "--ignore-not-found", "-o", "json"];
    serde_json::from_str(&kubectl_in(namespace, &args).await).unwrap_or_default()
}

/// Runs `kubectl` in a namespace, which must succeed, and returns its standard output.
pub async fn kubectl_in(namespace: &Namespace, args: &[&str]) -> String {
    let args: Vec<String> = ["-n", &namespace.name].iter().chain(args).map(|&arg| arg.to_owned()).collect();
    blocking(move || kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>())).await
}

/// `kubectl apply` of an object, or of a list, in a namespace.
pub async fn apply(namespace: &Namespace, object: &Value) {
    let (own, text) = (namespace.name.clone(), object.to_string());
    blocking(move || kubectl_with(&["-n", &own, "apply", "-f", "-"], &text)).await;
}
