//! Objects that cannot be applied, and what happens to the others meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use sluice_operator::controller::reason::Reason;
use support::trial::{DEPLOYMENT, PVCS, SECRETS, SETS, Trial, finish};

/// Returns a Trial that is Ready.
async fn ready() -> Trial {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.make_pvc("redis", "3Gi");
    trial.make_pvc("postgres", "20Gi");
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial
}

fn scale(trial: &Trial) {
    trial.change_spec(|spec| spec["aggregator"]["replicas"] = json!(1));
}

fn is_scaled(trial: &Trial) -> bool {
    trial.api.get(&format!("{SETS}/ledger-aggregator")).unwrap()["spec"]["replicas"] == 1
}

#[tokio::test]
async fn an_object_that_is_stuck_is_reported_and_does_not_hinder_the_others() {
    let trial = ready().await;
    trial.api.refuse("APPLY services/ledger-redis", 403);
    trial.api.change("/api/v1/namespaces/accounts/services/ledger-redis", |service| {
        service["spec"]["ports"][0]["port"] = json!(1);
    });
    scale(&trial);
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Forbidden);
    assert!(error.to_string().contains("ledger-redis"), "{error}");
    assert_eq!(trial.condition("Ready")["reason"], "Forbidden");
    assert!(is_scaled(&trial));
}

#[tokio::test]
async fn a_volume_that_is_being_deleted_holds_back_its_set_alone() {
    let trial = ready().await;
    trial.api.change(&format!("{PVCS}/data-ledger-redis-0"), |pvc| {
        pvc["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    trial.change_spec(|spec| {
        spec["redis"]["managed"]["cpu"] = json!("300m");
        spec["postgres"]["managed"]["storage"]["size"] = json!("40Gi");
    });
    scale(&trial);
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::WaitingForDeletion);
    assert!(error.to_string().contains("data-ledger-redis-0"), "{error}");
    assert!(is_scaled(&trial));
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.ends_with("statefulsets/ledger-redis")), "{writes:?}");
    assert!(writes.contains(&"MERGE persistentvolumeclaims/data-ledger-postgres-0".to_owned()), "{writes:?}");
}

#[tokio::test]
async fn no_pod_is_started_before_the_objects_that_it_needs() {
    let trial = Trial::new();
    trial.api.refuse("APPLY networkpolicies/ledger-default-deny", 403);
    let error = trial.reconcile().await.unwrap_err();
    assert!(error.to_string().contains("ledger-default-deny"), "{error}");
    let writes = trial.api.writes();
    assert!(writes.contains(&"APPLY services/ledger-redis".to_owned()), "{writes:?}");
    assert!(!writes.iter().any(|call| call.contains("statefulsets") || call.contains("deployments")), "{writes:?}");
}

#[tokio::test]
async fn publishers_keep_their_image_while_the_aggregators_cannot_be_applied() {
    let trial = ready().await;
    trial.change_spec(|spec| {
        spec["images"]["aggregator"] = json!("mirror.example/agg:3");
        spec["images"]["publisher"] = json!("mirror.example/pub:3");
    });
    trial.api.refuse("APPLY statefulsets/ledger-aggregator", 403);
    trial.reconcile().await.unwrap_err();
    trial.api.change(DEPLOYMENT, finish);
    let image = &trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "mirror.example/pub:2");
}

#[tokio::test]
async fn a_password_that_is_stuck_does_not_hinder_the_other_one() {
    let trial = Trial::new();
    trial.api.refuse("CREATE secrets", 403);
    trial.reconcile().await.unwrap_err();
    assert_eq!(trial.api.writes().iter().filter(|call| *call == "CREATE secrets").count(), 2);
    assert!(trial.api.get(&format!("{SECRETS}/ledger-redis")).is_none());
}

#[tokio::test]
async fn an_api_server_that_fails_is_not_asked_for_the_rest() {
    let trial = Trial::new();
    trial.api.refuse("APPLY services", 500);
    trial.reconcile().await.unwrap_err();
    let writes = trial.api.writes();
    assert_eq!(writes.iter().filter(|call| call.starts_with("APPLY services")).count(), 1, "{writes:?}");
    assert!(!writes.iter().any(|call| call.starts_with("APPLY poddisruptionbudgets")), "{writes:?}");
}
