//! The upgrade of the managed PostgreSQL to another major version, under load.

use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl, root};
use crate::support::load::Load;
use crate::support::node::Process;
use crate::support::objects::{Namespace, SOON, is_ready, kubectl_in};
use crate::support::operators;
use crate::support::trial::{NAME, OPERATOR, Stage, Trial, small};

/// Loads the image of PostgreSQL 16 into the nodes. It is made once.
async fn load_older_postgres() {
    blocking(|| {
        let nodes = kubectl(&["get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "name"]);
        let name = nodes.trim().trim_start_matches("node/").trim_end_matches("-control-plane").to_owned();
        let script = root().join("tests/kind/cluster/older-postgres");
        let status = Command::new(script).arg(name).status().expect("the script starts");
        assert!(status.success(), "PostgreSQL 16 cannot be loaded: {status}");
    })
    .await;
}

async fn server_version(namespace: &Namespace, pod: &str) -> String {
    let ask = ["exec", pod, "--", "psql", "-U", "sluice", "-Atc", "SHOW server_version_num"];
    kubectl_in(namespace, &ask).await.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_to_another_major_version_under_load_loses_nothing_and_stores_nothing_twice() {
    load_older_postgres().await;
    let mut spec = small(2);
    spec["postgres"]["managed"]["version"] = json!(16);
    let mut trial = Trial::with("major upgrade", Stage::shared("upgrade").await, spec).await;
    let namespace = trial.namespace().clone();
    assert!(server_version(&namespace, "shop-postgres-0").await.starts_with("16"));
    trial.load(Load::default()).await;
    trial.unwatch();

    namespace.patch(NAME, json!({ "spec": { "postgres": { "managed": { "version": 17 } } } })).await;
    let (reason, message) = namespace.condition(NAME, "Upgraded", "True").await;
    assert_eq!(reason, "UpgradeComplete", "{message}");
    trial.note(message);
    namespace.ready(NAME).await;
    trial.moved_to("postgres-17-0").await;
    assert!(server_version(&namespace, "shop-postgres-17-0").await.starts_with("17"));
    let status = namespace.resource(NAME).await["status"]["postgres"].clone();
    assert_eq!((&status["version"], &status["previous"]), (&json!(17), &json!(["data-shop-postgres-0"])), "{status}");
    trial.more(500).await;
    trial.end().await;

    namespace
        .patch(NAME, json!({ "spec": { "postgres": { "managed": { "upgrade": { "keepPrevious": false } } } } }))
        .await;
    wait_until("the former volume is gone", SOON, || async {
        let pvcs = kubectl_in(&namespace, &["get", "pvc", "-o", "name"]).await;
        holds(!pvcs.contains("data-shop-postgres-0") && pvcs.contains("data-shop-postgres-17-0"), || pvcs)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_whose_new_server_cannot_start_is_taken_back_under_load() {
    load_older_postgres().await;
    let mut spec = small(1);
    spec["postgres"]["managed"]["version"] = json!(16);
    let mut trial = Trial::with("major upgrade taken back", Stage::shared("upgrade-back").await, spec).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let ask = json!({ "postgres": { "managed": { "version": 90, "upgrade": { "ignoreEstimate": true } } } });
    namespace.patch(NAME, json!({ "spec": ask })).await;
    wait_until("the image of the new server is missed", SOON, || async {
        let (_, message) = namespace.condition(NAME, "Upgraded", "False").await;
        holds(message.contains("postgres:90"), || message)
    })
    .await;
    trial.more(500).await;
    namespace.patch(NAME, json!({ "spec": { "postgres": { "managed": { "version": 16 } } } })).await;
    wait_until("nothing is left of it", SOON, || async {
        let left = kubectl_in(&namespace, &["get", "sts,pvc,jobs", "-o", "name"]).await;
        holds(!left.contains("postgres-90") && !left.contains("upgrade"), || left)
    })
    .await;
    namespace.ready(NAME).await;
    trial.end().await;
}

const QUOTA: &str = "no-jobs";

/// Waits until the text appears in the conditions of the resource.
async fn says(namespace: &Namespace, text: &str) {
    wait_until(&format!("a condition says {text:?}"), SOON, || async {
        let conditions = namespace.resource(NAME).await["status"]["conditions"].to_string();
        holds(conditions.contains(text), || conditions)
    })
    .await;
}

/// Waits until the Job of the upgrade has such a pod, and returns it.
async fn copying(namespace: &Namespace, what: &str, is: impl Fn(&Pod) -> bool) -> Pod {
    wait_until(what, SOON, || async {
        let pods = namespace.pods().list(&Default::default()).await.map_err(|error| error.to_string())?;
        let found = pods.items.into_iter().find(|pod| pod.name_any().contains("upgrade"));
        let found = found.ok_or_else(|| "there is none".to_owned())?;
        holds(is(&found), || format!("{:?}", found.status)).map(|()| found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_with_tls_whose_operator_and_copy_are_killed_is_done_by_another_attempt() {
    load_older_postgres().await;
    let mut spec = small(1);
    spec["tls"] = json!({ "enabled": true });
    spec["postgres"]["managed"]["version"] = json!(16);
    let mut trial =
        Trial::with("major upgrade, operator and copy killed", Stage::shared("upgrade-tls").await, spec).await;
    let namespace = trial.namespace().clone();
    let operator = OPERATOR.write().await;
    // It goes on while the aggregators are stopped, so that events wait in Redis.
    trial.send(Load { events: 30_000, rate: 300, verify: false, tls: true, ..Load::default() }).await;
    trial.stored(1).await;
    // The operator comes as far as the copy, and no further.
    kubectl_in(&namespace, &["create", "quota", QUOTA, "--hard=count/jobs.batch=0"]).await;
    namespace.patch(NAME, json!({ "spec": { "postgres": { "managed": { "version": 17 } } } })).await;
    says(&namespace, "exceeded quota").await;
    Process::of(&operators::only().await.expect("one operator")).kill();
    trial.fault_elsewhere();
    let server = Process::of(&namespace.pod("shop-postgres-0").await);
    kubectl_in(&namespace, &["delete", "quota", QUOTA]).await;
    copying(&namespace, "the copy begins", |_| true).await;
    // So that the copy cannot end before it is killed.
    server.stop();
    Process::of(&copying(&namespace, "the copy runs", is_ready).await).kill();
    server.resume();
    trial.fault_elsewhere();
    says(&namespace, "PostgreSQL 16 serves on").await;
    let (reason, message) = namespace.condition(NAME, "Upgraded", "False").await;
    assert_eq!(reason, "UpgradeFailed", "{message}");
    drop(operator);
    trial.note(message);
    trial.more(500).await;

    trial.unwatch();
    namespace
        .patch(NAME, json!({ "spec": { "postgres": { "managed": { "upgrade": { "keepPrevious": false } } } } }))
        .await;
    let (reason, message) = namespace.condition(NAME, "Upgraded", "True").await;
    assert_eq!(reason, "UpgradeComplete", "{message}");
    namespace.ready(NAME).await;
    assert!(server_version(&namespace, "shop-postgres-17-0").await.starts_with("17"));
    trial.finished().await;
    // What compares the events speaks no TLS with Redis.
    namespace.patch(NAME, json!({ "spec": { "tls": { "enabled": false } } })).await;
    namespace.ready(NAME).await;
    trial.moved_to("postgres-17-0").await;
    trial.end().await;
}
