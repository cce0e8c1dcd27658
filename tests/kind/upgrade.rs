//! The upgrade of the managed PostgreSQL to another major version, under load.

use std::process::Command;

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl, root};
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, kubectl_in};
use crate::support::trial::{NAME, Stage, Trial, small};

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
