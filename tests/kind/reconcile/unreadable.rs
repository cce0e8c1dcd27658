//! A stored object that the operator cannot deserialize.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_tests::metrics::sum;
use sluice_tests::wait::holds;
use sluice_tests::{Client, wait_until};

use super::kubectl_in;
use crate::support::cluster::{blocking, kubectl};
use crate::support::forward::Forward;
use crate::support::install::{NAMESPACE, RELEASE};
use crate::support::objects::{Namespace, SOON};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, create, small};

const BAD: &str = "unreadable";
/// The API server accepts this timestamp, because it checks only that the offset from UTC consists of digits.
/// The operator cannot parse it, because no such offset exists.
const NEVER: &str = "2026-02-03T04:05:06+99:99";

/// Replaces the conditions in the status, like another client with permission to write the status.
async fn set_conditions(namespace: &Namespace, conditions: &[Value]) {
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    let patched = namespace.resources().patch_status(BAD, &PatchParams::default(), &patch).await;
    patched.expect("the API server accepts it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_read_is_named_and_holds_up_no_other() {
    let stage = Stage::shared("unreadable").await;
    let namespace = &stage.namespace;
    create(namespace, BAD, json!({ "paused": true })).await;
    namespace.condition(BAD, "Ready", "Unknown").await;
    let conditions = namespace.resource(BAD).await["status"]["conditions"].as_array().cloned().expect("conditions");
    let foreign = json!({
        "type": "Foreign", "status": "True", "reason": "Set", "message": "by somebody else",
        "lastTransitionTime": NEVER,
    });
    set_conditions(namespace, &[conditions.as_slice(), &[foreign]].concat()).await;

    // An operator that starts now gets it in its first list, together with all valid objects.
    let restarting = OPERATOR.write().await;
    blocking(|| {
        let deployment = format!("deployment/{RELEASE}");
        kubectl(&["-n", NAMESPACE, "rollout", "restart", &deployment]);
        kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=10m"]);
    })
    .await;
    let system = operators::system().await;
    let pod = wait_until("one operator runs", SOON, operators::only).await.name_any();
    let own = namespace.name.as_str();
    wait_until("the operator's log names it", SOON, || async {
        let log = kubectl_in(&system, &["logs", &pod, "--tail=-1"]).await;
        let names = |line: &str| [own, BAD, "Unparsable"].iter().all(|word| line.contains(word));
        holds(log.lines().any(names), || log)
    })
    .await;
    let forward = Forward::start(&namespace.client, NAMESPACE, &pod, 8082).await;
    let client = Client::new(&format!("http://{}", forward.address()));
    // The operator counts the error after it has logged it.
    wait_until("the operator's metrics count it", SOON, || async {
        let answer = client.try_send(client.request("GET", "/metrics")).await.map_err(|error| error.to_string())?;
        let of_it = answer.text.lines().filter(|line| line.contains("\"Unparsable\""));
        let unparsable: String = of_it.map(|line| format!("{line}\n")).collect();
        holds(sum(&unparsable, "sluice_operator_reconciles_total") >= 1.0, || answer.text.clone())
    })
    .await;
    drop(restarting);

    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    namespace.patch(NAME, json!({ "spec": { "aggregator": { "workers": 3 } } })).await;
    namespace.ready(NAME).await;
    assert_eq!(namespace.variable("shop-aggregator", "SLUICE_WORKERS").await, "3");

    // The operator notices without a restart that the object is valid again.
    set_conditions(namespace, &conditions).await;
    namespace.patch(BAD, json!({ "spec": { "streams": 2 } })).await;
    namespace.condition(BAD, "Ready", "Unknown").await;
}
