//! The upgrade of a managed PostgreSQL, on a fake API server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_operator::controller::upgrade::measured::Measured;
use support::trial::{PVCS, RESOURCE, SETS, Trial, finish};

const JOBS: &str = "/apis/batch/v1/namespaces/accounts/jobs";
const PODS: &str = "/api/v1/namespaces/accounts/pods";
const SERVICES: &str = "/api/v1/namespaces/accounts/services";
const CONFIG_MAPS: &str = "/api/v1/namespaces/accounts/configmaps";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

fn labels(component: &str) -> Value {
    json!({"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
        "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sluice-operator"})
}

fn put_pod(trial: &Trial, name: &str, component: &str) {
    trial.api.put(
        &format!("{PODS}/{name}"),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "accounts", "labels": labels(component)}}),
    );
}

fn put_pvc(trial: &Trial, set: &str, annotations: Value) -> String {
    let path = format!("{PVCS}/data-{set}-0");
    trial.api.put(
        &path,
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": format!("data-{set}-0"), "namespace": "accounts", "uid": format!("of-{set}"),
                "resourceVersion": "1", "labels": labels("postgres"), "annotations": annotations},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "20Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "20Gi"}}}),
    );
    path
}

/// A ready resource with PostgreSQL 16, two pods that are seen, and a load that is known.
async fn trial() -> Trial {
    let trial = Trial::new();
    trial.change_spec(|spec| {
        spec["postgres"]["managed"]["version"] = json!(16);
        spec["aggregator"] = json!({"replicas": 2});
        spec["images"] = json!({});
    });
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    put_pvc(&trial, "ledger-postgres", json!({}));
    put_pod(&trial, "ledger-postgres-0", "postgres");
    put_pod(&trial, "ledger-aggregator-0", "aggregator");
    trial.reconcile().await.unwrap();
    measure(&trial, 100 << 20, 10.0);
    trial
}

fn measure(trial: &Trial, database_bytes: i64, events_per_second: f64) {
    let measured = Measured {
        database_bytes: Some(database_bytes),
        events_per_second: Some(events_per_second),
        event_bytes: Some(300.0),
        memory_ratio: Some(0.1),
        backlog: Some(5),
    };
    let uid = trial.api.get(RESOURCE).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    trial.context.measurements.note(&uid, measured, None, Instant::now());
}

fn ask(trial: &Trial, version: i32) {
    trial.change_spec(|spec| spec["postgres"]["managed"]["version"] = json!(version));
}

fn replicas(trial: &Trial, set: &str) -> Option<i64> {
    trial.api.get(&format!("{SETS}/{set}"))?["spec"]["replicas"].as_i64()
}

fn aggregators(trial: &Trial) -> i64 {
    replicas(trial, "ledger-aggregator").unwrap()
}

fn upgrade(trial: &Trial) -> Value {
    trial.api.get(RESOURCE).unwrap()["status"]["postgres"]["upgrade"].clone()
}

fn leads_to(trial: &Trial, service: &str) -> Option<Value> {
    Some(trial.api.get(&format!("{SERVICES}/{service}"))?["spec"]["selector"][POD_NAME].clone())
}

/// Returns the Jobs that exist.
fn jobs(trial: &Trial) -> Vec<Value> {
    let made = trial.api.bodies("CREATE jobs");
    let name = |job: &Value| job["metadata"]["name"].as_str().unwrap().to_owned();
    made.iter().filter_map(|job| trial.api.get(&format!("{JOBS}/{}", name(job)))).collect()
}

/// Starts the new server, as Kubernetes does.
fn start_next(trial: &Trial) {
    trial.api.change(&format!("{SETS}/ledger-postgres-17"), finish);
    let template =
        trial.api.get(&format!("{SETS}/ledger-postgres-17")).unwrap()["spec"]["volumeClaimTemplates"][0].clone();
    put_pvc(trial, "ledger-postgres-17", template["metadata"]["annotations"].clone());
    put_pod(trial, "ledger-postgres-17-0", "postgres");
}

fn stop_aggregators(trial: &Trial) {
    trial.api.remove(&format!("{PODS}/ledger-aggregator-0"));
    trial.api.change(&format!("{SETS}/ledger-aggregator"), finish);
}

/// Ends the only Job, with what its container says.
fn end_job(trial: &Trial, condition: &str, said: &str) {
    let jobs = jobs(trial);
    assert_eq!(jobs.len(), 1);
    let name = jobs[0]["metadata"]["name"].as_str().unwrap();
    let time = "2026-01-02T05:00:00Z";
    trial.api.change(&format!("{JOBS}/{name}"), |job| {
        job["status"] = json!({"startTime": time, "completionTime": (condition == "Complete").then_some(time),
            "conditions": [{"type": condition, "status": "True", "lastTransitionTime": time, "message": "of the Job"}]});
    });
    let mut of_pod = labels("backup");
    of_pod["batch.kubernetes.io/job-name"] = json!(name);
    let code = i32::from(condition != "Complete");
    trial.api.put(
        &format!("{PODS}/{name}-x"),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-x"), "namespace": "accounts", "labels": of_pod},
            "status": {"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [
                {"name": "upgrade", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "message": said}}}]}}),
    );
}

/// Brings the resource to the point where the Job runs.
async fn copying() -> Trial {
    let trial = trial().await;
    ask(&trial, 17);
    trial.reconcile().await.unwrap();
    start_next(&trial);
    trial.reconcile().await.unwrap();
    stop_aggregators(&trial);
    trial.reconcile().await.unwrap();
    trial.reconcile().await.unwrap();
    assert_eq!(jobs(&trial).len(), 1, "{}", trial.condition("Upgraded"));
    trial
}

#[tokio::test]
async fn a_raised_version_is_reached_step_by_step_and_the_former_volume_is_kept() {
    let trial = trial().await;
    assert_eq!(trial.api.get(RESOURCE).unwrap()["status"]["postgres"]["version"], 16);
    assert_eq!(
        trial.api.get(&format!("{PVCS}/data-ledger-postgres-0")).unwrap()["metadata"]["annotations"]["sluice.dev/postgres-version"],
        "16"
    );
    let before = trial.api.get(&format!("{SETS}/ledger-postgres")).unwrap()["spec"].clone();
    ask(&trial, 17);
    trial.change_spec(|spec| spec["postgres"]["managed"]["parameters"] = json!({"summarize_wal": "on"}));
    trial.reconcile().await.unwrap();
    assert_eq!(
        (aggregators(&trial), &upgrade(&trial)["state"]),
        (2, &json!("Preparing")),
        "{}",
        trial.condition("Ready")
    );
    assert_eq!(replicas(&trial, "ledger-postgres-17"), Some(1));
    let ready = trial.condition("Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Upgrading")));
    assert_eq!(trial.api.get(&format!("{SETS}/ledger-postgres")).unwrap()["spec"], before, "the server is left alone");
    assert_eq!(leads_to(&trial, "ledger-postgres"), Some(json!("ledger-postgres-0")));
    assert_eq!(leads_to(&trial, "ledger-postgres-17"), Some(json!("ledger-postgres-17-0")));

    start_next(&trial);
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), jobs(&trial).len()), (0, 0), "they stop first");
    trial.reconcile().await.unwrap();
    assert_eq!(jobs(&trial).len(), 0, "an aggregator still runs");
    stop_aggregators(&trial);
    trial.reconcile().await.unwrap();
    let made = jobs(&trial);
    let template = &made[0]["spec"]["template"]["spec"]["containers"][0];
    assert!(template["image"].as_str().unwrap().contains("17"), "the newer pg_dump reads both: {template}");
    trial.reconcile().await.unwrap();
    assert_eq!((jobs(&trial).len(), &upgrade(&trial)["state"]), (1, &json!("Copying")));

    end_job(&trial, "Complete", "all rows were compared");
    trial.reconcile().await.unwrap();
    let pvc = trial.api.get(&format!("{PVCS}/data-ledger-postgres-17-0")).unwrap();
    assert_eq!(pvc["metadata"]["annotations"]["sluice.dev/complete"], "16-to-17-1");
    assert_eq!(aggregators(&trial), 0, "the former server still runs");
    trial.reconcile().await.unwrap();
    assert_eq!(leads_to(&trial, "ledger-postgres"), Some(json!("ledger-postgres-17-0")));
    assert_eq!((replicas(&trial, "ledger-postgres"), aggregators(&trial)), (None, 0), "it is being stopped");
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 0, "its pod is still there");
    trial.api.remove(&format!("{PODS}/ledger-postgres-0"));
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 2);
    trial.api.change(&format!("{SETS}/ledger-aggregator"), finish);
    trial.reconcile().await.unwrap();
    let (upgraded, status) =
        (trial.condition("Upgraded"), trial.api.get(RESOURCE).unwrap()["status"]["postgres"].clone());
    assert_eq!((&upgraded["status"], &upgraded["reason"]), (&json!("True"), &json!("UpgradeComplete")));
    assert!(upgraded["message"].as_str().unwrap().contains("all rows were compared"), "{upgraded}");
    assert_eq!((&status["version"], &status["previous"]), (&json!(17), &json!(["data-ledger-postgres-0"])));
    assert_eq!(trial.condition("Ready")["status"], "True");
    assert_eq!(leads_to(&trial, "ledger-postgres-17"), None);
    let config = trial.api.get(&format!("{CONFIG_MAPS}/ledger-postgres-17")).unwrap();
    assert!(config["data"]["postgresql.conf"].as_str().unwrap().contains("summarize_wal"));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0], "a steady state writes nothing");

    trial.change_spec(|spec| spec["postgres"]["managed"]["upgrade"] = json!({"keepPrevious": false}));
    trial.reconcile().await.unwrap();
    let is_there = |set: &str| trial.api.get(&format!("{PVCS}/data-{set}-0")).is_some();
    assert!(!is_there("ledger-postgres") && is_there("ledger-postgres-17"));
}

#[tokio::test]
async fn a_copy_that_fails_goes_back_and_is_tried_again_after_a_change() {
    let trial = copying().await;
    end_job(&trial, "Failed", "PostgreSQL 17 does not have the same rows as 16");
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), replicas(&trial, "ledger-postgres")), (2, Some(1)));
    assert_eq!((replicas(&trial, "ledger-postgres-17"), jobs(&trial).len()), (None, 0));
    assert_eq!(leads_to(&trial, "ledger-postgres"), Some(json!("ledger-postgres-0")));
    let upgraded = trial.condition("Upgraded");
    assert_eq!(upgraded["reason"], "UpgradeFailed");
    assert!(upgraded["message"].as_str().unwrap().contains("does not have the same rows"), "{upgraded}");
    trial.api.remove(&format!("{PODS}/ledger-postgres-17-0"));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(&format!("{PVCS}/data-ledger-postgres-17-0")), None, "it is of no use");
    assert!(trial.condition("Upgraded")["message"].as_str().unwrap().contains("tried again"));
    put_pod(&trial, "ledger-aggregator-0", "aggregator");
    trial.api.change(&format!("{SETS}/ledger-aggregator"), finish);
    trial.reconcile().await.unwrap();
    assert_eq!(
        (replicas(&trial, "ledger-postgres-17"), &upgrade(&trial)["state"]),
        (None, &json!("Failed")),
        "it rests"
    );

    trial.change_spec(|spec| spec["streams"] = json!(2));
    trial.reconcile().await.unwrap();
    assert_eq!((replicas(&trial, "ledger-postgres-17"), &upgrade(&trial)["attempt"]), (Some(1), &json!(2)));
}

#[tokio::test]
async fn an_upgrade_that_is_taken_back_leaves_nothing() {
    let trial = copying().await;
    ask(&trial, 16);
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), jobs(&trial).len(), replicas(&trial, "ledger-postgres-17")), (2, 0, None));
    trial.api.remove(&format!("{PODS}/ledger-postgres-17-0"));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(&format!("{PVCS}/data-ledger-postgres-17-0")), None);
    assert_eq!((trial.condition("Upgraded"), upgrade(&trial)), (Value::Null, Value::Null));
}

#[tokio::test]
async fn a_copy_that_is_killed_before_it_says_anything_is_named_with_its_exit_code() {
    let trial = copying().await;
    end_job(&trial, "Failed", "");
    trial.reconcile().await.unwrap();
    let message = trial.condition("Upgraded")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("container upgrade ended with exit code 1 (Error)"), "{message}");
}

#[tokio::test]
async fn a_job_that_cannot_be_removed_keeps_the_aggregators_stopped() {
    let trial = copying().await;
    end_job(&trial, "Failed", "no");
    trial.api.refuse("DELETE jobs", 500);
    assert!(trial.reconcile().await.is_err());
    assert_eq!(aggregators(&trial), 0, "its success could be taken for that of a later attempt");
    trial.api.allow("DELETE jobs");
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 2);
}

#[tokio::test]
async fn a_copy_that_aggregators_may_have_outrun_is_not_switched_to() {
    let trial = copying().await;
    // Somebody scaled the StatefulSet by hand, and back.
    trial.api.change(&format!("{SETS}/ledger-aggregator"), |set| set["metadata"]["generation"] = json!(77));
    end_job(&trial, "Complete", "all rows were compared");
    trial.reconcile().await.unwrap();
    let pvc = trial.api.get(&format!("{PVCS}/data-ledger-postgres-17-0"));
    assert!(pvc.is_none_or(|pvc| pvc["metadata"]["annotations"]["sluice.dev/complete"] == Value::Null));
    assert_eq!(trial.condition("Upgraded")["reason"], "UpgradeFailed");
    assert_eq!(leads_to(&trial, "ledger-postgres"), Some(json!("ledger-postgres-0")));
}

#[tokio::test]
async fn an_upgrade_that_does_not_fit_is_refused_by_name_unless_that_is_ignored() {
    let trial = trial().await;
    measure(&trial, 10 << 30, 1_000.0);
    ask(&trial, 17);
    trial.reconcile().await.unwrap();
    let upgraded = trial.condition("Upgraded");
    assert_eq!((&upgraded["status"], &upgraded["reason"]), (&json!("False"), &json!("UpgradeDoesNotFit")));
    let message = upgraded["message"].as_str().unwrap();
    assert!(message.contains("Redis has room for") && message.contains("spec.redis.managed.memory"), "{message}");
    assert_eq!((replicas(&trial, "ledger-postgres-17"), aggregators(&trial)), (None, 2));
    trial.change_spec(|spec| spec["postgres"]["managed"]["upgrade"] = json!({"ignoreEstimate": true}));
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial, "ledger-postgres-17"), Some(1));
}

#[tokio::test]
async fn a_volume_that_is_too_small_for_the_rows_is_refused_by_name() {
    let trial = trial().await;
    measure(&trial, 1 << 40, 0.0);
    ask(&trial, 17);
    trial.change_spec(|spec| spec["postgres"]["managed"]["upgrade"] = json!({"ignoreEstimate": true}));
    trial.reconcile().await.unwrap();
    let upgraded = trial.condition("Upgraded");
    assert_eq!(upgraded["reason"], "UpgradeDoesNotFit");
    assert!(upgraded["message"].as_str().unwrap().contains("spec.postgres.managed.storage.size"), "{upgraded}");
}

#[tokio::test]
async fn a_lower_version_is_refused_by_name() {
    let trial = trial().await;
    ask(&trial, 15);
    assert!(trial.reconcile().await.is_err());
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "Invalid");
    assert!(ready["message"].as_str().unwrap().contains("spec.postgres.managed.version"), "{ready}");
    assert_eq!(replicas(&trial, "ledger-postgres"), Some(1), "the server goes on");
}

#[tokio::test]
async fn a_new_server_that_does_not_start_stops_nothing_and_fails_after_half_an_hour() {
    let trial = trial().await;
    ask(&trial, 17);
    trial.reconcile().await.unwrap();
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), &upgrade(&trial)["state"]), (2, &json!("Preparing")));
    let past = jiff::Timestamp::now().checked_sub(Duration::from_secs(31 * 60)).unwrap();
    trial.api.change(RESOURCE, |resource| resource["status"]["postgres"]["upgrade"]["since"] = json!(past.to_string()));
    trial.reconcile().await.unwrap();
    assert_eq!((aggregators(&trial), replicas(&trial, "ledger-postgres-17")), (2, None));
    assert_eq!(trial.condition("Upgraded")["reason"], "UpgradeFailed");
}

#[tokio::test]
async fn a_resource_that_is_created_again_finds_the_volume_to_which_it_was_upgraded() {
    let trial = Trial::new();
    put_pvc(&trial, "ledger-postgres", json!({"sluice.dev/postgres-version": "16"}));
    put_pvc(&trial, "ledger-postgres-17", json!({"sluice.dev/complete": "16-to-17-1"}));
    trial.change_spec(|spec| spec["postgres"]["managed"]["version"] = json!(17));
    trial.reconcile().await.unwrap();
    assert_eq!((replicas(&trial, "ledger-postgres-17"), replicas(&trial, "ledger-postgres")), (Some(1), None));
    assert_eq!(leads_to(&trial, "ledger-postgres"), Some(json!("ledger-postgres-17-0")));
}
