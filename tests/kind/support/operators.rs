//! The operator pods that reconcile the resources of all tests: their namespace, and how many run.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::cluster::{blocking, client, kubectl};
use super::install::{NAMESPACE, RELEASE};
use super::objects::{Namespace, SOON, is_ready};

/// The label selector of the operator pods.
pub const LABELS: &str = "app.kubernetes.io/name=sluice-operator";

/// Returns the namespace of the operator.
pub async fn system() -> Namespace {
    Namespace { name: NAMESPACE.to_owned(), client: client().await }
}

/// Returns the operator pods, including those that start or terminate.
pub async fn pods() -> Result<Vec<Pod>, String> {
    let pods = system().await.pods().list(&ListParams::default().labels(LABELS)).await;
    pods.map(|list| list.items).map_err(|error| error.to_string())
}

/// Returns the operator pod, if there is exactly one and it is ready.
pub async fn only() -> Result<Pod, String> {
    let mut pods = pods().await?;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    holds((ready, pods.len()) == (1, 1), || format!("{ready} of {} operators are ready", pods.len()))?;
    Ok(pods.remove(0))
}

/// Scales the operator to `count` replicas, and waits until exactly these are ready.
pub async fn run(count: usize) {
    blocking(move || {
        let (deployment, replicas) = (format!("deployment/{RELEASE}"), format!("--replicas={count}"));
        kubectl(&["-n", NAMESPACE, "scale", &deployment, &replicas]);
    })
    .await;
    wait_until(&format!("{count} operators run"), SOON, || async {
        let pods = pods().await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        holds((ready, pods.len()) == (count, count), || format!("{ready} of {}", pods.len()))
    })
    .await;
}
