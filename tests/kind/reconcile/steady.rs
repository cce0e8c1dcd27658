//! The operator writes nothing while nothing changes.

use std::time::Duration;

use k8s_openapi::api::core::v1::ContainerStatus;
use serde_json::Value;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{Objects, asked, objects, text};
use crate::support::cluster::{blocking, kubectl};
use crate::support::objects::SOON;
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, create, small};

const MINUTE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(5);

/// Returns every namespaced kind except events and leases. Kinds in a group that ends in `example` are left
/// out too, because other tests add and remove them.
async fn kinds() -> String {
    let kinds = blocking(|| kubectl(&["api-resources", "--namespaced", "--verbs=list", "-o", "name"])).await;
    let counted = |kind: &&str| {
        !["events", "leases"].contains(&kind.split('.').next().unwrap_or("")) && !kind.ends_with("example")
    };
    let kinds: Vec<_> = kinds.lines().filter(counted).collect();
    for needed in
        ["eventaggregators.sluice.dev", "endpointslices.discovery.k8s.io", "controllerrevisions.apps", "secrets"]
    {
        assert!(kinds.contains(&needed), "{needed} is not among {kinds:?}");
    }
    kinds.join(",")
}

/// Returns the names of the objects that were created, changed or deleted.
fn changes(before: &Objects, after: &Objects) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let version = |object: Option<&Value>| object.map(|object| text(object, "/metadata/resourceVersion").to_owned());
    let changed = names.filter(|name| version(before.get(*name)) != version(after.get(*name)));
    changed.cloned().collect()
}

/// Describes the change of an object for an assertion message: both states, and the writers with their times.
fn describe(name: &str, before: &Objects, after: &Objects) -> String {
    let writers = after.get(name).and_then(|object| object["metadata"]["managedFields"].as_array().cloned());
    let writers = writers.unwrap_or_default();
    let writers: Vec<_> =
        writers.iter().map(|writer| format!("{} at {}", text(writer, "/manager"), text(writer, "/time"))).collect();
    let plain = |object: Option<&Value>| {
        let mut object = object.cloned().unwrap_or_default();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        format!("{object:#}")
    };
    format!("{name}, written by {}\n{}\n→ {}", writers.join(", "), plain(before.get(name)), plain(after.get(name)))
}

/// Returns whether only the status of a pod changed. The kubelet writes it, at times that do not depend on the
/// operator.
fn is_kubelets(name: &str, before: &Objects, after: &Objects) -> bool {
    let same = before.get(name).map(asked) == after.get(name).map(asked);
    name.starts_with("Pod/") && same
}

/// Returns the running containers of the operator. The test is only meaningful while the operator runs. Whether they
/// are ready is not asked, because a probe may time out on a machine that is busy.
async fn operators() -> Vec<String> {
    let pods = operators::pods().await.expect("operators");
    let statuses = pods.into_iter().filter_map(|pod| pod.status?.container_statuses).flatten();
    let running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    statuses.filter(running).filter_map(|status| status.container_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_resource_is_not_written_to_for_a_minute_nor_is_anything_of_it() {
    // Under the load of other tests an aggregator may answer too late, which the status says: then nothing is idle.
    let stage = Stage::alone("steady").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;
    wait_until("the status has backlog and totals", SOON, || async {
        let status = namespace.resource(NAME).await["status"].clone();
        holds(status["backlog"] == 0 && status["totals"]["received"] == 0, || format!("{status:#}"))
    })
    .await;

    let _operator = OPERATOR.read().await;
    let kinds = kinds().await;
    let all = async || objects(namespace, &kinds, &[]).await;
    let until_steady = async || {
        wait_until("nothing changes for some seconds", SOON, || async {
            let before = all().await;
            tokio::time::sleep(QUIET).await;
            let after = all().await;
            let changed = changes(&before, &after);
            holds(changed.is_empty(), || format!("{changed:?}")).map(|()| after)
        })
        .await
    };
    let running = operators().await;
    assert!(!running.is_empty(), "no operator runs");
    let mut before = until_steady().await;
    for last in [false, true] {
        tokio::time::sleep(MINUTE).await;
        let after = all().await;
        let changed = changes(&before, &after);
        if changed.is_empty() {
            break;
        }
        let kubelets = changed.iter().all(|name| is_kubelets(name, &before, &after));
        let descriptions: Vec<_> = changed.iter().map(|name| describe(name, &before, &after)).collect();
        assert!(kubelets && !last, "changed within a minute:\n{}", descriptions.join("\n\n"));
        before = until_steady().await;
    }
    assert_eq!(operators().await, running, "the operator ran all the time");
    assert!(before.keys().any(|name| name.starts_with("EndpointSlice/")), "{:?}", before.keys());
}
