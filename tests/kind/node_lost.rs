//! A node that does not answer any more, as after a power cut: nothing tells whether its pods still run.

use std::process::Command;

use kube::ResourceExt;
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl, try_kubectl};
use crate::support::load::Load;
use crate::support::objects::{SOON, node_of};
use crate::support::operators;
use crate::support::trial::{NAME, Stage, Trial, small};

/// What docs/operations.md tells to do for a node that is switched off for good.
const TAINT: &str = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";

/// A node whose processes are all frozen, so that it answers nothing. It is a node as before when this is dropped.
struct Lost(String);

impl Lost {
    /// Freezes a node. The kernel refuses it while one of many processes begins another one, so it is tried again.
    async fn freeze(node: &str) -> Self {
        let lost = Self(node.to_owned());
        wait_until("the node is frozen", SOON, || async { lost.engine("pause") }).await;
        lost
    }

    fn engine(&self, command: &str) -> Result<(), String> {
        let done = Command::new("docker").args([command, &self.0]).output().expect("docker");
        holds(done.status.success(), || String::from_utf8_lossy(&done.stderr).into_owned())
    }

    /// Lets the node go on with what it did, and take pods again when the cluster sees it.
    async fn back(self) {
        self.engine("unpause").expect("it is frozen");
        let node = self.0.clone();
        blocking(move || kubectl(&["wait", "--for=condition=Ready", "--timeout=3m", &format!("node/{node}")])).await;
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        // It is not frozen any more if the test came to its end.
        let _ = self.engine("unpause");
        try_kubectl(&["taint", "nodes", &self.0, &format!("{TAINT}-")], "");
    }
}

/// Returns the name of a worker without an operator, and that of the other one.
async fn workers() -> [String; 2] {
    let operator = node_of(&operators::only().await.expect("one operator")).to_owned();
    let listed = blocking(|| {
        let selector = "!node-role.kubernetes.io/control-plane";
        kubectl(&["get", "nodes", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"])
    });
    let mut workers: Vec<_> = listed.await.split_whitespace().map(str::to_owned).collect();
    workers.sort_by_key(|name| *name == operator);
    workers.try_into().expect("two workers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_lost_under_load_is_named_and_its_aggregator_goes_on_elsewhere_and_does_no_harm_later() {
    let stage = Stage::alone("node-lost").await;
    let [lost, kept] = workers().await;
    let mut spec = small(2);
    spec["publisher"]["replicas"] = json!(2);
    // Their volumes are directories of a node, which are lost with it.
    let there = json!({ "nodeSelector": { "kubernetes.io/hostname": kept } });
    for server in ["redis", "postgres"] {
        spec[server]["managed"]["pods"] = there.clone();
    }
    let mut trial = Trial::with("node lost", stage, spec).await;
    let namespace = trial.namespace().clone();
    trial.load(Load { node: Some(kept.clone()), ..Load::default() }).await;
    let aggregators = namespace.pods_of(NAME, "aggregator").await;
    let before = aggregators.iter().find(|pod| node_of(pod) == lost).expect("an aggregator on each worker").clone();

    let held = trial.hold_of(&before.name_any()).await;
    let node = Lost::freeze(&lost).await;
    held.release_but_on(&lost);
    trial.fault(held.pending);
    let waited = lost.clone();
    blocking(move || kubectl(&["wait", "--for=condition=Ready=Unknown", "--timeout=3m", &format!("node/{waited}")]))
        .await;
    namespace.delete_pod(&before.name_any()).await;
    wait_until("the status names the node", SOON, || async {
        let conditions = namespace.resource(NAME).await["status"]["conditions"].clone();
        let all = conditions.as_array().cloned().unwrap_or_default();
        let said = all.iter().any(|one| one["reason"] == "NodeLost" && one["message"].to_string().contains(&lost));
        holds(said, || conditions.to_string())
    })
    .await;

    let said = lost.clone();
    blocking(move || kubectl(&["taint", "nodes", &said, TAINT])).await;
    namespace.restarted_pod(&before).await;
    let now = namespace.pod(&before.name_any()).await;
    assert_eq!(node_of(&now), kept);
    namespace.ready(NAME).await;
    trial.more(1_000).await;

    // The former aggregator goes on where it was frozen, beside the one of its name, until its kubelet ends it.
    node.back().await;
    held.release();
    trial.more(1_000).await;
    trial.end().await;
}
