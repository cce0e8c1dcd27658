//! Planned replacement of pods while events flow: a new image, and the drain of a node.

use kube::ResourceExt;
use serde_json::json;

use crate::support::cluster::{kubectl, on_node, try_kubectl};
use crate::support::install;
use crate::support::load::Load;
use crate::support::objects::node_of;
use crate::support::trial::{NAME, Stage, Trial, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_image_is_rolled_out_under_load() {
    let mut trial = Trial::begin("rolling image change", "image", 3).await;
    let namespace = trial.namespace().clone();
    let next = another_name(&install::images().aggregator);
    trial.load(Load::default()).await;
    let held = trial.hold().await;
    namespace.patch(NAME, json!({ "spec": { "images": { "aggregator": next } } })).await;
    held.release();
    trial.fault(held.pending);
    namespace.ready(NAME).await;
    for pod in namespace.pods_of(NAME, "aggregator").await {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
        assert_eq!(image.as_deref(), Some(next.as_str()), "Ready means that {} has the new image", pod.name_any());
    }
    trial.end().await;
}

/// Gives an image a second name on every node, and returns it. For Kubernetes this is a different image.
fn another_name(image: &str) -> String {
    let next = format!("{image}-next");
    let nodes = kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    for node in nodes.split_whitespace() {
        let full = |image: &str| format!("docker.io/library/{image}");
        on_node(node, &["ctr", "-n", "k8s.io", "images", "tag", "--force", &full(image), &full(&next)]);
    }
    next
}

/// A drained node. It is made schedulable again when this is dropped, also when the test fails.
struct Drained(String);

impl Drop for Drained {
    fn drop(&mut self) {
        try_kubectl(&["uncordon", &self.0], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_under_load() {
    let mut trial = Trial::with("node drain", Stage::alone("drain").await, small(3)).await;
    let namespace = trial.namespace().clone();
    let nodes = kubectl(&["get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "name"]);
    let control_plane = nodes.trim().trim_start_matches("node/").to_owned();
    // The load runs on the control plane, which is not drained.
    trial.load(Load { node: Some(control_plane), ..Load::default() }).await;
    let pods = namespace.pods().list(&Default::default()).await.expect("pods").items;
    let aggregator = namespace.pod("shop-aggregator-0").await;
    let node = node_of(&aggregator).to_owned();
    let gone = pods.iter().filter(|pod| node_of(pod) == node).map(|pod| pod.name_any().replace("shop-", ""));
    trial.note(format!("drained: {}", gone.collect::<Vec<_>>().join(" ")));

    let held = trial.hold_of("shop-aggregator-0").await;
    let drained = Drained(node.clone());
    let drain = tokio::task::spawn_blocking(move || {
        kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=10m"])
    });
    held.release();
    trial.fault(held.pending);
    drain.await.expect("the node is drained");
    drop(drained);
    namespace.ready(NAME).await;
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}
