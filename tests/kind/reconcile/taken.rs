//! Objects of somebody else that have the names that a resource needs.

use serde_json::Value;

use super::{kubectl_in, says};
use crate::support::trial::{NAME, Stage, create, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_somebody_else_is_named_in_the_status_and_never_overwritten() {
    let stage = Stage::shared("taken").await;
    let namespace = &stage.namespace;
    kubectl_in(namespace, &["create", "configmap", "shop-redis", "--from-literal=color=blue"]).await;
    kubectl_in(namespace, &["create", "secret", "generic", "shop-postgres", "--from-literal=password=theirs"]).await;
    create(namespace, NAME, small(1)).await;

    let (reason, message) = says(namespace, "Ready", "False", "shop-postgres").await;
    assert_eq!(reason, "NameTaken", "{message}");
    assert!(message.contains("Secret"), "{message}");
    assert_eq!(namespace.secret("shop-postgres", "password").await, "theirs");
    kubectl_in(namespace, &["delete", "secret", "shop-postgres"]).await;

    let (reason, message) = says(namespace, "Ready", "False", "shop-redis").await;
    assert_eq!(reason, "NameTaken", "{message}");
    assert!(message.contains("ConfigMap"), "{message}");
    let theirs = kubectl_in(namespace, &["get", "configmap", "shop-redis", "-o", "json"]).await;
    let theirs: Value = serde_json::from_str(&theirs).expect("JSON");
    assert_eq!(theirs["data"], serde_json::json!({ "color": "blue" }));
    assert_eq!(theirs["metadata"]["ownerReferences"], Value::Null, "{theirs:#}");
    kubectl_in(namespace, &["delete", "configmap", "shop-redis"]).await;

    namespace.ready(NAME).await;
    assert_ne!(namespace.secret("shop-postgres", "password").await, "theirs");
}
