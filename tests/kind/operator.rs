//! The operator is killed at inconvenient moments, or absent for some time, and events are not affected.

use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, client, kubectl, try_kubectl};
use crate::support::install::{self, NAMESPACE, RELEASE};
use crate::support::load::Load;
use crate::support::node::Process;
use crate::support::objects::{Namespace, SOON, is_ready};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, Trial, create, small};

/// Returns the name of the pod that leads: it holds the lease, and it is ready. The holder alone is not enough,
/// because an operator that is uninstalled loses the permission to release its lease.
async fn leader() -> String {
    let api: Api<Lease> = Api::namespaced(client().await, NAMESPACE);
    let pods = operators::system().await.pods();
    wait_until("an operator leads", SOON, || async {
        let lease = api.get(RELEASE).await.map_err(|error| error.to_string())?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
        let holder = holder.ok_or_else(|| "no operator holds the lease".to_owned())?;
        let pod = pods.get_opt(&holder).await.map_err(|error| error.to_string())?;
        holds(pod.is_some_and(|pod| is_ready(&pod)), || format!("{holder} holds the lease and is not ready"))?;
        Ok(holder)
    })
    .await
}

const QUOTA: &str = "no-sets";
const SET: &str = "\
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: probe }
spec:
  serviceName: probe
  selector: { matchLabels: { app: probe } }
  template:
    metadata: { labels: { app: probe } }
    spec: { containers: [{ name: probe, image: probe }] }
";

/// Forbids StatefulSets in a namespace, and waits until the API server refuses them.
async fn forbid_sets(namespace: &Namespace) {
    let own = namespace.name.clone();
    blocking(move || kubectl(&["-n", &own, "create", "quota", QUOTA, "--hard=count/statefulsets.apps=0"])).await;
    wait_until("the API server refuses StatefulSets", SOON, || async {
        let own = namespace.name.clone();
        let create = move || try_kubectl(&["-n", &own, "create", "--dry-run=server", "-f", "-"], SET);
        let output = blocking(create).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        holds(!output.status.success() && said.contains("quota"), || said)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_killed_in_mid_create_finishes_when_it_is_back() {
    let stage = Stage::shared("mid-create").await;
    let operator = OPERATOR.write().await;
    let namespace = stage.namespace.clone();
    let process = Process::of(&operators::system().await.pod(&leader().await).await);
    // The operator may be faster than the test. The quota guarantees that it cannot finish before it is killed.
    forbid_sets(&namespace).await;
    create(&namespace, NAME, small(2)).await;
    let sets: Api<StatefulSet> = Api::namespaced(namespace.client.clone(), &namespace.name);
    let made = wait_until("an object is created", SOON, || async {
        let kinds = "serviceaccounts,secrets,configmaps,networkpolicies,services,pdb,statefulsets,deployments";
        let own = namespace.name.clone();
        let labels = "app.kubernetes.io/managed-by=sluice-operator";
        let listed = blocking(move || kubectl(&["-n", &own, "get", kinds, "-l", labels, "-o", "name"])).await;
        let made = listed.lines().count();
        holds(made > 0, || "none".to_owned()).map(|()| made)
    })
    .await;
    process.kill();
    let before = sets.list(&ListParams::default()).await.expect("sets").items.len();
    assert_eq!(before, 0, "the operator was killed before it created a StatefulSet");
    let own = namespace.name.clone();
    blocking(move || kubectl(&["-n", &own, "delete", "quota", QUOTA])).await;
    namespace.ready(NAME).await;
    drop(operator);
    let mut trial = Trial::on("operator killed in mid-create", stage).await;
    trial.fault_elsewhere();
    trial.note(format!("killed with {made} objects created and no StatefulSet"));
    trial.send(Load::fast(10_000)).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_flows_without_the_operator_and_a_pending_change_is_applied_later() {
    let mut trial = Trial::begin("operator away, a change pending", "away", 1).await;
    let namespace = trial.namespace().clone();
    let operator = OPERATOR.write().await;
    operators::run(0).await;
    trial.load(Load::default()).await;
    namespace.patch(NAME, json!({ "spec": { "aggregator": { "replicas": 3 } } })).await;
    // A killed aggregator restarts without an operator, too.
    let before = namespace.pod("shop-aggregator-0").await;
    let held = trial.hold().await;
    held.kill();
    trial.fault(held.pending);
    namespace.restarted_pod(&before).await;
    trial.more(1_000).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 1, "no operator ran that could apply the change");
    operators::run(1).await;
    drop(operator);
    namespace.ready(NAME).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 3);
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leading_operator_is_killed_the_other_takes_over() {
    let mut trial = Trial::begin("two operators, the leader killed", "leader", 1).await;
    let namespace = trial.namespace().clone();
    let operator = OPERATOR.write().await;
    operators::run(2).await;
    let first = leader().await;
    let process = Process::of(&operators::system().await.pod(&first).await);
    trial.load(Load::default()).await;
    let gone = first.clone();
    // It is killed, so that it cannot release the lease, and its pod is deleted, because the container would
    // otherwise restart under the same name.
    process.kill();
    blocking(move || kubectl(&["-n", NAMESPACE, "delete", "pod", &gone, "--grace-period=0", "--force"])).await;
    let killed = Instant::now();
    trial.fault_elsewhere();
    namespace.patch(NAME, json!({ "spec": { "aggregator": { "replicas": 2 } } })).await;
    let second = wait_until("another operator leads", SOON, || async {
        let leader = leader().await;
        holds(leader != first, || leader.clone()).map(|()| leader)
    })
    .await;
    trial.note(format!("another led after {:.0} s", killed.elapsed().as_secs_f64()));
    namespace.ready(NAME).await;
    assert_eq!(namespace.pods_of(NAME, "aggregator").await.len(), 2, "{second} applied the change");
    operators::run(1).await;
    drop(operator);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_uninstall_leaves_resources_and_data() {
    let mut trial = Trial::begin("helm uninstall, and install again", "uninstall", 2).await;
    let namespace = trial.namespace().clone();
    let operator = OPERATOR.write().await;
    trial.load(Load::default()).await;
    let held = trial.hold().await;
    blocking(install::uninstall).await;
    held.release();
    trial.fault(held.pending);
    trial.more(1_000).await;
    assert_eq!(namespace.resource(NAME).await["metadata"]["name"], NAME);
    let pods = namespace.pods().list(&ListParams::default()).await.expect("pods");
    let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    assert!(names.contains(&"shop-aggregator-1".to_owned()), "{names:?}");
    blocking(|| install::install(&[])).await;
    drop(operator);
    namespace.patch(NAME, json!({ "spec": { "aggregator": { "replicas": 3 } } })).await;
    namespace.ready(NAME).await;
    trial.end().await;
}
