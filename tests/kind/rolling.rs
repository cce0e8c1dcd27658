//! Planned replacement of pods while events flow: a new image, an upgrade of the chart, and the drain of a node.

use std::fs;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl, on_node, try_kubectl};
use crate::support::install;
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, node_of};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, Trial, small};

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
        assert_eq!(image_of(&pod), next, "Ready means that {} has the new image", pod.name_any());
    }
    trial.end().await;
}

fn image_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
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

/// Runs alone, because an upgrade of the operator replaces the pods of every resource.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_chart_and_its_rollback_replace_aggregators_before_publishers_under_load() {
    let mut trial = Trial::with("upgrade and rollback of the chart", Stage::alone("upgrade").await, small(2)).await;
    let operator = OPERATOR.write().await;
    let namespace = trial.namespace().clone();
    let images = install::images();
    let next = [&images.operator, &images.aggregator, &images.publisher].map(|image| another_name(image));
    trial.load(Load::default()).await;
    let held = trial.hold().await;
    let restored = install::Restored;
    let tags = next.clone();
    let upgrade = tokio::task::spawn_blocking(move || upgrade_with_a_new_field(&tags));
    held.release();
    trial.fault(held.pending);
    let [operator_image, aggregator_image, publisher_image] = next;
    wait_until("all pods have the new images", SOON, || async {
        all_replaced_in_order(&namespace, &aggregator_image, &publisher_image).await
    })
    .await;
    upgrade.await.expect("the upgrade succeeds");
    let new = operators::only().await.expect("one operator");
    assert_eq!(image_of(&new), operator_image, "the upgrade has waited for the new operator");
    namespace.ready(NAME).await;
    assert!(has_the_new_field(&namespace).await, "the upgrade has brought the changed definition");
    roll_back(&mut trial).await;
    assert!(!has_the_new_field(&namespace).await, "the rollback has brought the former definition");
    trial.end().await;
    blocking(move || drop(restored)).await;
    drop(operator);
}

/// Rolls the release back under load, and waits until everything has the former images again. Their tags are no versions,
/// so the operator cannot know that they are older, and keeps the order of an upgrade.
async fn roll_back(trial: &mut Trial) {
    let namespace = trial.namespace().clone();
    let former = install::images();
    let held = trial.hold().await;
    let rollback = tokio::task::spawn_blocking(install::roll_back);
    held.release();
    trial.fault(held.pending);
    wait_until("all pods have the former images", SOON, || async {
        all_replaced_in_order(&namespace, &former.aggregator, &former.publisher).await
    })
    .await;
    rollback.await.expect("the rollback succeeds");
    let operator = operators::only().await.expect("one operator");
    assert_eq!(image_of(&operator), former.operator, "the rollback has waited for the former operator");
    namespace.ready(NAME).await;
}

/// Returns whether the API server accepts the field that only the newer definition has.
async fn has_the_new_field(namespace: &Namespace) -> bool {
    let with_news = format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: EventAggregator\nmetadata:\n  name: other\n  namespace: {}\nspec:\n  \
         news: \"yes\"\n",
        namespace.name
    );
    let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let output = blocking(move || try_kubectl(&create, &with_news)).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    let unknown = errors.contains("unknown field");
    assert!(output.status.success() || unknown, "{errors}");
    !unknown
}

/// Upgrades the release to these images, and to a chart whose definition has one more field.
fn upgrade_with_a_new_field(images: &[String; 3]) {
    let folder = tempfile::tempdir().expect("a folder");
    let chart = install::copied_chart(folder.path());
    let file = chart.join("files/crd.yaml");
    let before = "              deletionPolicy:\n";
    let definition = fs::read_to_string(&file).expect("the definition");
    assert!(definition.contains(before), "{definition}");
    let changed = definition.replace(before, &format!("              news: {{type: string}}\n{before}"));
    fs::write(&file, changed).expect("the changed definition");
    let [operator, aggregator, publisher] = images.each_ref().map(|image| install::tag(image));
    let set = format!("image.tag={operator},images.aggregator.tag={aggregator},images.publisher.tag={publisher}");
    install::upgrade_to(&chart, &["--set", &set]);
}

/// Succeeds when all pods have the new images. Panics if a publisher has the new image before all aggregators: they
/// might not be able to read what it writes.
async fn all_replaced_in_order(namespace: &Namespace, aggregator: &str, publisher: &str) -> Result<(), String> {
    // One list, so that all pods are seen at the same moment.
    let labels = format!("app.kubernetes.io/instance={NAME}");
    let pods =
        namespace.pods().list(&ListParams::default().labels(&labels)).await.map_err(|error| error.to_string())?;
    let of = |component: &'static str| {
        let label = "app.kubernetes.io/component";
        pods.iter().filter(move |pod| pod.labels().get(label).is_some_and(|found| found == component))
    };
    let old: Vec<_> = of("aggregator").filter(|pod| image_of(pod) != aggregator).map(|pod| pod.name_any()).collect();
    let new: Vec<_> = of("publisher").filter(|pod| image_of(pod) == publisher).map(|pod| pod.name_any()).collect();
    assert!(old.is_empty() || new.is_empty(), "{new:?} have the new image, and {old:?} have not");
    let others = of("publisher").count() - new.len();
    holds(old.is_empty() && !new.is_empty() && others == 0, || format!("{old:?} are old, {new:?} new, {others} others"))
}

/// A drained node. It is made schedulable again when this is dropped, also when the test fails.
struct Drained(String);

impl Drop for Drained {
    fn drop(&mut self) {
        try_kubectl(&["uncordon", &self.0], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_aggregator_and_a_server_is_drained_under_load() {
    let mut trial = Trial::with("node drain", Stage::alone("drain").await, small(3)).await;
    let namespace = trial.namespace().clone();
    let nodes = kubectl(&["get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "name"]);
    let control_plane = nodes.trim().trim_start_matches("node/").to_owned();
    // The load runs on the control plane, which is not drained.
    trial.load(Load { node: Some(control_plane), ..Load::default() }).await;
    let servers = [namespace.pod("shop-postgres-0").await, namespace.pod("shop-redis-0").await];
    let aggregators = namespace.pods_of(NAME, "aggregator").await;
    // The aggregators are spread over the workers, so one of them is beside a server. Where both servers are, is up to
    // the scheduler.
    let pair = servers.iter().find_map(|server| {
        aggregators.iter().find(|aggregator| node_of(aggregator) == node_of(server)).map(|found| (server, found))
    });
    let (server, aggregator) = pair.expect("a worker has a server and an aggregator");
    let node = node_of(server).to_owned();
    let pods = namespace.pods().list(&Default::default()).await.expect("pods").items;
    let on_it = pods.iter().filter(|pod| node_of(pod) == node).map(|pod| pod.name_any().replace("shop-", ""));
    trial.note(format!("drained: {}", on_it.collect::<Vec<_>>().join(" ")));

    let held = trial.hold_of(&aggregator.name_any()).await;
    let drained = Drained(node.clone());
    let drain = tokio::task::spawn_blocking(move || {
        kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=10m"])
    });
    held.release();
    trial.fault(held.pending);
    drain.await.expect("the node is drained");
    // The volume of the server is on this node, so the server cannot run elsewhere.
    let waiting = namespace.pods().get_opt(&server.name_any()).await.expect("the API server answers");
    assert_ne!(waiting.and_then(|pod| pod.uid()), server.uid(), "the drain has evicted the server");
    drop(drained);
    namespace.restarted_pod(server).await;
    namespace.ready(NAME).await;
    trial.send(Load::fast(5_000)).await;
    trial.end().await;
}
