//! Backups and restores of the managed PostgreSQL, under load.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, PostParams};
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, kubectl_in};
use crate::support::trial::{NAME, Stage, Trial, create, small};

/// Creates the volume claim for backups.
async fn make_claim(namespace: &Namespace) {
    let claim = json!({
        "metadata": { "name": "backups" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    let api: Api<PersistentVolumeClaim> = Api::namespaced(namespace.client.clone(), &namespace.name);
    let claim = serde_json::from_value(claim).expect("a claim");
    api.create(&PostParams::default(), &claim).await.expect("the claim is created");
}

/// Makes a backup now, and returns its name.
async fn back_up(namespace: &Namespace, job: &str) -> String {
    kubectl_in(namespace, &["create", "job", job, "--from=cronjob/shop-backup"]).await;
    wait_until("the backup is in the status", SOON, || async {
        let status = namespace.resource(NAME).await["status"]["backup"].clone();
        let name = status["last"].as_str().map(str::to_owned);
        holds(name.is_some() && status["lastSize"].as_i64() > Some(1_000), || status.to_string())
            .map(|()| name.unwrap_or_default())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_restored_in_place_under_load_loses_nothing_that_was_accepted() {
    let stage = Stage::shared("restore").await;
    make_claim(&stage.namespace).await;
    let mut spec = small(2);
    // It never comes during the test.
    spec["postgres"]["managed"]["backup"] =
        json!({ "schedule": "0 0 29 2 *", "keep": 2, "to": { "claim": "backups" } });
    let mut trial = Trial::with("restored in place", stage, spec).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let name = back_up(&namespace, "one").await;
    assert_eq!(namespace.condition(NAME, "BackedUp", "True").await.0, "BackupRecent");

    // Acknowledged, and not in the backup: it can come back only from Redis.
    trial.more(3_000).await;
    trial.unwatch();
    let restore = json!({ "spec": { "postgres": { "managed": { "restore": { "backup": name } } } } });
    namespace.patch(NAME, restore).await;
    let (reason, message) = namespace.condition(NAME, "Restored", "True").await;
    assert_eq!(reason, "RestoreComplete", "{message}");
    trial.note(message);
    namespace.ready(NAME).await;
    trial.more(500).await;
    trial.end().await;

    // A new resource beside it begins with the same backup.
    let mut copy = small(1);
    copy["restoreFrom"] = json!({ "name": NAME, "from": { "claim": "backups" }, "backup": name });
    create(&namespace, "copy", copy).await;
    let (reason, message) = namespace.condition("copy", "Restored", "True").await;
    assert_eq!(reason, "RestoreComplete", "{message}");
    namespace.ready("copy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_of_a_backup_that_does_not_exist_leaves_the_system_as_it_was() {
    let stage = Stage::shared("restore-bad").await;
    make_claim(&stage.namespace).await;
    let mut spec = small(1);
    spec["postgres"]["managed"]["backup"] = json!({ "schedule": "0 0 29 2 *", "to": { "claim": "backups" } });
    let mut trial = Trial::with("a restore that fails", stage, spec).await;
    let namespace = trial.namespace().clone();
    trial.load(Load::default()).await;
    let restore = json!({ "spec": { "postgres": { "managed": { "restore": { "backup": "20200101-000000-000" } } } } });
    namespace.patch(NAME, restore).await;
    wait_until("the restore has failed", SOON, || async {
        let (reason, message) = namespace.condition(NAME, "Restored", "False").await;
        holds(reason == "RestoreFailed" && message.contains("there is no backup"), || format!("{reason}: {message}"))
    })
    .await;
    namespace.ready(NAME).await;
    trial.more(500).await;
    trial.end().await;
}
