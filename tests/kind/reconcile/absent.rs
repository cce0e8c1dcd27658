//! A namespace that is deleted while no operator runs.

use serde_json::json;

use super::{OF_RESOURCE, kubectl_in};
use crate::support::cluster::{blocking, kubectl, try_kubectl};
use crate::support::install::{NAMESPACE, RELEASE};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, create, small};

/// While this exists, no operator runs. On drop the operator is scaled to one replica again.
struct NoOperator;

impl NoOperator {
    async fn begin() -> Self {
        let absence = Self;
        operators::run(0).await;
        absence
    }
}

impl Drop for NoOperator {
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
    let absence = NoOperator::begin().await;
    let name = doomed.namespace.name.clone();
    blocking(move || kubectl(&["delete", "namespace", &name, "--timeout=10m"])).await;
    drop(absence);
    blocking(|| {
        let deployment = format!("deployment/{RELEASE}");
        kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=10m"]);
    })
    .await;

    // The operator works again: for this condition it needs the lease, the watch and permission to write.
    create(&stage.namespace, NAME, json!({ "paused": true })).await;
    assert_eq!(stage.namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");
    let system = operators::system().await;
    let log = kubectl_in(&system, &["logs", &format!("deployment/{RELEASE}"), "--tail=-1"]).await;
    assert!(!log.contains(&doomed.namespace.name), "the log mentions a deleted namespace:\n{log}");
    drop(operator);
}
