//! Volumes that cannot grow, and volumes that do not grow although their storage class says that they can.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{containers, kubectl_in, says, text};
use crate::support::cluster::{blocking, kubectl, kubectl_with, try_kubectl};
use crate::support::objects::Namespace;
use crate::support::trial::{NAME, Stage, create, small};

fn sized(size: &str) -> Value {
    json!({ "spec": { "postgres": { "managed": { "storage": { "size": size } } } } })
}

/// Returns the line of the configuration that depends on the size of the volume.
async fn max_wal_size(namespace: &Namespace) -> String {
    let config = kubectl_in(namespace, &["get", "configmap", "shop-postgres", "-o", "json"]).await;
    let config: Value = serde_json::from_str(&config).expect("a ConfigMap");
    let lines = text(&config, "/data/postgresql.conf").lines();
    lines.filter(|line| line.starts_with("max_wal_size")).collect()
}

/// Returns the size that the claim requests and the size of its volume.
async fn sizes(namespace: &Namespace) -> String {
    let path = "jsonpath={.spec.resources.requests.storage} {.status.capacity.storage}";
    kubectl_in(namespace, &["get", "persistentvolumeclaim", "data-shop-postgres-0", "-o", path]).await
}

async fn volume_in_status(namespace: &Namespace) -> Value {
    namespace.resource(NAME).await["status"]["volumes"]["postgres"].clone()
}

/// The storage class of the cluster does not allow volumes to grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_growth_restarts_nothing_and_the_former_size_is_accepted() {
    let stage = Stage::shared("refused").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    let before = (max_wal_size(namespace).await, sizes(namespace).await, containers(namespace).await);
    assert_eq!((before.0.as_str(), before.1.as_str()), ("max_wal_size = 128MB", "1Gi 1Gi"));

    namespace.patch(NAME, sized("64Gi")).await;
    let (reason, message) = says(namespace, "Ready", "False", "data-shop-postgres-0").await;
    assert_eq!(reason, "VolumeRefused", "{message}");
    let after = (max_wal_size(namespace).await, sizes(namespace).await, containers(namespace).await);
    assert_eq!(after, before, "the volume is as it was, so its configuration and its pod are too");
    assert_eq!(volume_in_status(namespace).await, "1Gi");

    let smaller = namespace.resources().patch(NAME, &PatchParams::default(), &Patch::Merge(sized("512Mi"))).await;
    let refused = smaller.expect_err("a volume cannot shrink").to_string();
    assert!(refused.contains("spec.postgres.managed.storage.size"), "{refused}");

    namespace.patch(NAME, sized("1Gi")).await;
    namespace.ready(NAME).await;
    let after = (max_wal_size(namespace).await, sizes(namespace).await, containers(namespace).await);
    assert_eq!(after, before);
}

/// A storage class that is deleted when it is dropped.
struct Class(String);

impl Class {
    /// Creates a class that allows volumes to grow, with the provisioner of the cluster, which cannot do it.
    async fn create(name: String) -> Self {
        let made = name.clone();
        blocking(move || {
            let provisioner = kubectl(&["get", "storageclass", "standard", "-o", "jsonpath={.provisioner}"]);
            let class = json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": made },
                "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer",
                "reclaimPolicy": "Delete", "allowVolumeExpansion": true,
            });
            kubectl_with(&["create", "-f", "-"], &class.to_string());
        })
        .await;
        Self(name)
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        try_kubectl(&["delete", "storageclass", &self.0, "--ignore-not-found"], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_is_not_ready_while_a_volume_has_not_grown() {
    let stage = Stage::shared("growing").await;
    let namespace = &stage.namespace;
    let class = Class::create(format!("{}-grows", namespace.name)).await;
    let mut spec = small(1);
    spec["postgres"]["managed"]["storage"]["storageClassName"] = json!(class.0);
    create(namespace, NAME, spec).await;
    namespace.ready(NAME).await;
    let before = (max_wal_size(namespace).await, containers(namespace).await);

    namespace.patch(NAME, sized("2Gi")).await;
    let (reason, message) = says(namespace, "Ready", "False", "data-shop-postgres-0 has 1Gi of 2Gi").await;
    assert_eq!(reason, "VolumeGrowing", "{message}");
    assert_eq!(sizes(namespace).await, "2Gi 1Gi", "the claim requests it, and nobody makes the volume larger");
    assert_eq!(volume_in_status(namespace).await, "1Gi");
    assert_eq!((max_wal_size(namespace).await, containers(namespace).await), before);

    namespace.patch(NAME, sized("1Gi")).await;
    namespace.ready(NAME).await;
    assert_eq!((max_wal_size(namespace).await, containers(namespace).await), before);
}
