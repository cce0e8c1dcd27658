//! A namespace that goes while nobody looks after it.

use serde_json::json;

use super::{OF_RESOURCE, kubectl_in};
use crate::support::cluster::{blocking, kubectl, try_kubectl};
use crate::support::install::{NAMESPACE, RELEASE};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, create, small};

/// No operator runs for as long as this lives.
struct Away;

impl Away {
    async fn send() -> Self {
        let away = Self;
        operators::run(0).await;
        away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        try_kubectl(&["-n", NAMESPACE, "scale", &format!("deployment/{RELEASE}"), "--replicas=1"], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_can_be_deleted_while_the_operator_is_away_and_the_operator_comes_back_well() {
    let stage = Stage::shared("left").await;
    let doomed = stage.beside("doomed").await;
    create(&doomed.namespace, NAME, small(1)).await;
    doomed.namespace.ready(NAME).await;
    let pods = kubectl_in(&doomed.namespace, &["get", "pods", "-l", OF_RESOURCE, "-o", "name"]).await;
    assert_eq!(pods.lines().count(), 4, "{pods}");

    let operator = OPERATOR.write().await;
    let away = Away::send().await;
    let name = doomed.namespace.name.clone();
    blocking(move || kubectl(&["delete", "namespace", &name, "--timeout=10m"])).await;
    drop(away);
    blocking(|| {
        let deployment = format!("deployment/{RELEASE}");
        kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=10m"]);
    })
    .await;

    // It works: this is its own answer, which needs the lease, the watch and the right to write.
    create(&stage.namespace, NAME, json!({ "paused": true })).await;
    assert_eq!(stage.namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");
    let system = operators::system().await;
    let log = kubectl_in(&system, &["logs", &format!("deployment/{RELEASE}"), "--tail=-1"]).await;
    assert!(!log.contains(&doomed.namespace.name), "what is gone is of no concern:\n{log}");
    drop(operator);
}
