//! The level `restricted` of the Pod Security Standards.

use serde_json::{Value, json};

use super::{kubectl_in, objects};
use crate::support::cluster::blocking;
use crate::support::cluster::{kubectl, try_kubectl};
use crate::support::objects::is_ready;
use crate::support::trial::{NAME, Stage, create, small};

const LEVEL: &str = "pod-security.kubernetes.io";

/// Runs `kubectl` with a server-side dry run, and returns whether it succeeded and the text on both outputs.
async fn dry_run(namespace: &str, verb: &str, object: &Value) -> (bool, String) {
    let (own, verb, manifest) = (namespace.to_owned(), verb.to_owned(), object.to_string());
    let output = blocking(move || try_kubectl(&[&verb, "-n", &own, "--dry-run=server", "-f", "-"], &manifest)).await;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), said)
}

/// Returns the spec of a pod that `restricted` does not allow.
fn privileged() -> Value {
    json!({ "containers": [{ "name": "shell", "image": "shell", "securityContext": { "privileged": true } }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_enforces_restricted_admits_every_pod_of_a_resource() {
    let stage = Stage::shared("restricted").await;
    let namespace = &stage.namespace;
    let own = &namespace.name;
    let labels = kubectl(&["get", "namespace", own, "-o", "jsonpath={.metadata.labels}"]);
    let labels: Value = serde_json::from_str(&labels).expect("labels");
    assert_eq!(labels[format!("{LEVEL}/enforce")], "restricted", "{labels}");
    let intruder =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "intruder" }, "spec": privileged() });
    let (admitted, said) = dry_run(own, "create", &intruder).await;
    assert!(!admitted && said.contains("violates PodSecurity \"restricted"), "a privileged pod: {said}");

    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    let mut parts = 0;
    for part in ["aggregator", "publisher", "redis", "postgres"] {
        let pods = namespace.pods_of(NAME, part).await;
        parts += usize::from(pods.len() == 1 && pods.iter().all(is_ready));
    }
    assert_eq!(parts, 4, "a pod of each part is admitted and ready");

    // The API server does not refuse a pod template. It only warns, and only in a namespace with this label.
    kubectl_in(namespace, &["label", "namespace", own, &format!("{LEVEL}/warn=restricted")]).await;
    let sets = objects(namespace, "statefulsets,deployments", &[]).await;
    assert_eq!(sets.len(), 4, "{:?}", sets.keys());
    for (name, mut set) in sets {
        if let Some(metadata) = set["metadata"].as_object_mut() {
            // Without a version the replacement cannot conflict with a change by the operator.
            metadata.retain(|field, _| !["managedFields", "resourceVersion"].contains(&field.as_str()));
        }
        set["spec"]["template"]["metadata"]["annotations"]["looked-at"] = "again".into();
        let (accepted, said) = dry_run(own, "replace", &set).await;
        assert!(accepted && !said.contains("would violate"), "{name}: {said}");
        set["spec"]["template"]["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
        let (_, said) = dry_run(own, "replace", &set).await;
        assert!(said.contains("would violate PodSecurity \"restricted"), "{name} with a privileged container: {said}");
    }
}
