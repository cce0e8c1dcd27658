//! Backups and restores, on a fake API server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{RESOURCE, SETS, Trial, finish};

const CRON_JOB: &str = "/apis/batch/v1/namespaces/accounts/cronjobs/ledger-backup";
const JOBS: &str = "/apis/batch/v1/namespaces/accounts/jobs";
const PODS: &str = "/api/v1/namespaces/accounts/pods";
const NAME: &str = "20260102-030405-678";

fn labels(component: &str) -> Value {
    json!({"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
        "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sluice-operator"})
}

/// A resource with backups into a claim, reconciled once.
async fn trial() -> Trial {
    let trial = Trial::new();
    trial.change_spec(|spec| {
        spec["postgres"]["managed"]["backup"] = json!({"schedule": "0 3 * * *", "keep": 3, "to": {"claim": "backups"}});
    });
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial
}

/// Stores a Job that has ended, and its pod with what its containers say.
fn ended(trial: &Trial, name: &str, annotations: Value, condition: &str, time: &str, containers: Value) {
    trial.api.put(
        &format!("{JOBS}/{name}"),
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": "accounts", "labels": labels("backup"), "annotations": annotations},
            "status": {"startTime": time, "completionTime": (condition == "Complete").then_some(time), "conditions": [
                {"type": condition, "status": "True", "lastTransitionTime": time, "message": "of the Job"}]}
        }),
    );
    let mut of_pod = labels("backup");
    of_pod["batch.kubernetes.io/job-name"] = json!(name);
    let statuses = containers.as_object().unwrap().iter().map(|(name, end)| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": end[0], "message": end[1]}}})
    });
    let statuses: Vec<_> = statuses.collect();
    trial.api.put(
        &format!("{PODS}/{name}-x"),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-x"), "namespace": "accounts", "labels": of_pod},
            "status": {"phase": "Succeeded", "containerStatuses": statuses}}),
    );
}

fn status(trial: &Trial, field: &str) -> Value {
    trial.api.get(RESOURCE).unwrap()["status"][field].clone()
}

fn aggregators(trial: &Trial) -> i64 {
    trial.api.get(&format!("{SETS}/ledger-aggregator")).unwrap()["spec"]["replicas"].as_i64().unwrap()
}

/// Asks for a restore in place.
fn ask(trial: &Trial, restore: Value) {
    trial.change_spec(|spec| spec["postgres"]["managed"]["restore"] = restore);
}

/// Returns the only Job of a restore.
fn restore_job(trial: &Trial) -> Option<Value> {
    let made = trial.api.bodies("CREATE jobs");
    assert!(made.len() < 2, "one restore has one Job");
    made.into_iter().next()
}

#[tokio::test]
async fn what_a_backup_stored_is_in_the_status_and_stays_when_its_job_is_gone() {
    let trial = trial().await;
    let cron_job = trial.api.get(CRON_JOB).unwrap();
    assert_eq!((&cron_job["spec"]["schedule"], &cron_job["spec"]["suspend"]), (&json!("0 3 * * *"), &json!(false)));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("BackedUp")["reason"], "NeverBackedUp");
    assert_eq!(trial.condition("Ready")["status"], "True", "it does not depend on backups");

    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let manifest = json!({"format": 1, "name": NAME, "size": 4096, "began": now}).to_string();
    ended(&trial, "b1", json!({}), "Complete", &now, json!({"store": [0, manifest], "dump": [0, ""]}));
    trial.reconcile().await.unwrap();
    let backup = status(&trial, "backup");
    assert_eq!((&backup["last"], &backup["lastSize"], &backup["lastTime"]), (&json!(NAME), &json!(4096), &json!(now)));
    assert!(backup["nextTime"].as_str().unwrap().ends_with("T03:00:00Z"), "{backup}");
    assert_eq!(trial.condition("BackedUp")["status"], "True");

    trial.api.remove(&format!("{JOBS}/b1"));
    trial.api.remove(&format!("{PODS}/b1-x"));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(status(&trial, "backup"), backup);
    assert_eq!(trial.api.writes(), [""; 0], "a steady state writes nothing");
}

#[tokio::test]
async fn a_backup_that_failed_or_is_missing_is_said() {
    let trial = trial().await;
    let old = "2026-01-02T03:00:00Z";
    let manifest = json!({"format": 1, "name": NAME, "size": 1, "began": old}).to_string();
    ended(&trial, "b1", json!({}), "Complete", old, json!({"store": [0, manifest]}));
    trial.reconcile().await.unwrap();
    let overdue = trial.condition("BackedUp");
    assert_eq!((&overdue["status"], &overdue["reason"]), (&json!("False"), &json!("BackupOverdue")));
    let message = overdue["message"].as_str().unwrap();
    assert!(message.contains("2026-01-03T03:00:00Z") && message.contains(NAME), "{message}");

    let later = "2026-01-03T03:00:30Z";
    ended(
        &trial,
        "b2",
        json!({}),
        "Failed",
        later,
        json!({"store": [1, "first\nthe S3 bucket: no"], "dump": [1, "x"]}),
    );
    trial.reconcile().await.unwrap();
    let failed = trial.condition("BackedUp");
    assert_eq!(failed["reason"], "BackupFailed");
    assert!(failed["message"].as_str().unwrap().contains("the S3 bucket: no"), "{failed}");
    assert_eq!(status(&trial, "backup")["failedTime"], later);

    trial.change_spec(|spec| spec["postgres"]["managed"]["backup"] = Value::Null);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("BackedUp"), Value::Null);
    assert_eq!(status(&trial, "backup"), Value::Null);
    assert_eq!(trial.api.get(CRON_JOB), None);
}

#[tokio::test]
async fn a_restore_begins_when_no_aggregator_runs_and_they_start_when_it_has_ended() {
    let trial = trial().await;
    trial.reconcile().await.unwrap();
    let pod = format!("{PODS}/ledger-aggregator-0");
    trial.api.put(
        &pod,
        json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "ledger-aggregator-0", "namespace": "accounts", "labels": labels("aggregator")}}),
    );
    ask(&trial, json!({"backup": NAME}));
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 0);
    assert_eq!(trial.api.get(CRON_JOB).unwrap()["spec"]["suspend"], true);
    trial.api.change(&format!("{SETS}/ledger-aggregator"), finish);
    trial.reconcile().await.unwrap();
    assert_eq!(restore_job(&trial), None, "an aggregator still runs");
    let ready = trial.condition("Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Restoring")), "{ready}");

    trial.api.remove(&pod);
    trial.reconcile().await.unwrap();
    let job = restore_job(&trial).unwrap();
    let (name, annotations) = (job["metadata"]["name"].as_str().unwrap(), job["metadata"]["annotations"].clone());
    trial.reconcile().await.unwrap();
    assert!(restore_job(&trial).is_some() && aggregators(&trial) == 0, "it runs, and there is one");
    assert_eq!(status(&trial, "restore")["state"], "Running");

    ended(&trial, name, annotations, "Complete", "2026-01-02T05:00:00Z", json!({"restore": [0, "it is restored"]}));
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 3);
    let restored = trial.condition("Restored");
    assert_eq!((&restored["status"], &restored["message"]), (&json!("True"), &json!("it is restored")));

    // Kubernetes removes the Job after a day.
    trial.api.remove(&format!("{JOBS}/{name}"));
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), &status(&trial, "restore")["state"]), (3, &json!("Succeeded")));
    assert_eq!(trial.condition("Ready")["status"], "True");
    ask(&trial, json!({"backup": NAME, "id": "again"}));
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 0, "another id is another restore");
}

#[tokio::test]
async fn a_restore_in_place_that_fails_leaves_the_system_running_and_says_why() {
    let trial = trial().await;
    trial.reconcile().await.unwrap();
    ask(&trial, json!({"backup": NAME}));
    trial.reconcile().await.unwrap();
    trial.reconcile().await.unwrap();
    let job = restore_job(&trial).unwrap();
    let (name, annotations) = (job["metadata"]["name"].as_str().unwrap(), job["metadata"]["annotations"].clone());
    let said =
        json!({"restore": [1, "the backup needs 9 MiB: raise spec.postgres.managed.storage.size"], "fetch": [1, "x"]});
    ended(&trial, name, annotations, "Failed", "2026-01-02T05:00:00Z", said);
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), &trial.condition("Ready")["status"]), (3, &json!("True")));
    let restored = trial.condition("Restored");
    assert_eq!(restored["reason"], "RestoreFailed");
    assert!(restored["message"].as_str().unwrap().contains("spec.postgres.managed.storage.size"), "{restored}");
}

#[tokio::test]
async fn a_new_resource_stores_nothing_before_its_backup_is_restored() {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["restoreFrom"] = json!({"name": "old", "from": {"claim": "backups"}}));
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 0);
    let job = restore_job(&trial).unwrap();
    let containers = job["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let args = containers[0]["args"].as_array().unwrap();
    assert!(args.contains(&json!("--url=file:///backups/accounts/old")), "{args:?}");
    assert!(containers[1]["env"].as_array().unwrap().contains(&json!({"name": "MODE", "value": "new"})));
    let (name, annotations) = (job["metadata"]["name"].as_str().unwrap(), job["metadata"]["annotations"].clone());

    ended(
        &trial,
        name,
        annotations.clone(),
        "Failed",
        "2026-01-02T05:00:00Z",
        json!({"fetch": [1, "there is no backup"]}),
    );
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), &trial.condition("Ready")["reason"]), (0, &json!("RestoreFailed")));

    ended(&trial, name, annotations, "Complete", "2026-01-02T06:00:00Z", json!({"restore": [0, "restored"]}));
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), &status(&trial, "restoredFrom")["state"]), (3, &json!("Succeeded")));
}

#[tokio::test]
async fn what_cannot_be_backed_up_or_restored_is_refused_by_name() {
    for (managed, names) in [
        (json!({"backup": {"schedule": "0 30 * * *", "to": {"claim": "c"}}}), "backup.schedule: \"30\" is not valid"),
        (json!({"backup": {"schedule": "0 0 30 2 *", "to": {"claim": "c"}}}), "never comes"),
        (json!({"backup": {"schedule": "0 3 * * *", "to": {}}}), "backup.to: must have either claim or s3"),
        (json!({"restore": {"backup": NAME}}), "spec.postgres.managed.restore: needs spec.postgres.managed.backup"),
        (
            json!({"backup": {"schedule": "0 3 * * *", "to": {"s3": {"bucket": "b-b", "credentialsSecret": "keys"}}}}),
            "backup.to.s3.credentialsSecret: there is no Secret keys with the key AWS_ACCESS_KEY_ID",
        ),
    ] {
        let trial = Trial::new();
        trial.change_spec(|spec| {
            for (name, value) in managed.as_object().unwrap() {
                spec["postgres"]["managed"][name] = value.clone();
            }
        });
        trial.reconcile().await.unwrap_err();
        let message = trial.condition("Ready")["message"].clone();
        assert!(message.as_str().unwrap().contains(names), "{message} does not say {names}");
    }
}
