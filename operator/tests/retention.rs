//! What `deletionPolicy` does with volumes and passwords, also when the resource cannot be reconciled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sluice_operator::controller::reason::Reason;
use support::trial::{PVCS, RESOURCE, SECRETS, SETS, Trial};

const SERVERS: [&str; 2] = ["redis", "postgres"];

/// Returns a Trial whose resource, with `deletionPolicy: Delete`, is Ready and has its volumes.
async fn with_volumes() -> Trial {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.make_pvc("redis", "3Gi");
    trial.make_pvc("postgres", "20Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial
}

/// Returns the kinds of the owners of all volumes and passwords.
fn owners(trial: &Trial) -> Vec<Value> {
    let names = SERVERS.map(|server| [format!("{PVCS}/data-ledger-{server}-0"), format!("{SECRETS}/ledger-{server}")]);
    let owners = names.as_flattened().iter().flat_map(|path| {
        let owners = trial.api.get(path).unwrap()["metadata"]["ownerReferences"].clone();
        owners.as_array().cloned().unwrap_or_default()
    });
    owners.map(|owner| owner["kind"].clone()).collect()
}

fn in_force(trial: &Trial) -> Value {
    trial.api.get(RESOURCE).unwrap()["status"]["deletionPolicy"].clone()
}

#[tokio::test]
async fn volumes_belong_to_the_resource_and_not_to_the_set_so_a_deleted_set_deletes_no_data() {
    let trial = with_volumes().await;
    assert_eq!(owners(&trial), ["EventAggregator"; 4]);
    assert_eq!(in_force(&trial), "Delete");
    for server in SERVERS {
        let path = format!("{SETS}/ledger-{server}");
        let policy = &trial.api.get(&path).unwrap()["spec"]["persistentVolumeClaimRetentionPolicy"];
        assert_eq!(*policy, json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    }
    trial.api.remove(&format!("{SETS}/ledger-postgres"));
    trial.reconcile().await.unwrap();
    assert!(trial.api.get(&format!("{SETS}/ledger-postgres")).is_some(), "it is created again");
    assert_eq!(owners(&trial), ["EventAggregator"; 4]);
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_resource_that_retains_its_data_owns_none_of_it() {
    let trial = with_volumes().await;
    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Retain"));
    trial.reconcile().await.unwrap();
    assert_eq!(owners(&trial), [""; 0]);
    assert_eq!(in_force(&trial), "Retain");

    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Delete"));
    trial.reconcile().await.unwrap();
    assert_eq!(owners(&trial), ["EventAggregator"; 4]);
    assert_eq!(in_force(&trial), "Delete");
}

#[tokio::test]
async fn the_policy_of_a_paused_resource_is_in_force() {
    let trial = with_volumes().await;
    trial.change_spec(|spec| {
        spec["paused"] = json!(true);
        spec["aggregator"]["replicas"] = json!(9);
    });
    trial.reconcile().await.unwrap();
    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Retain"));
    trial.reconcile().await.unwrap();
    assert_eq!(owners(&trial), [""; 0]);
    assert_eq!(in_force(&trial), "Retain");
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.starts_with("APPLY")), "nothing else is changed: {writes:?}");
    assert_eq!(trial.condition("Progressing")["reason"], "Paused");

    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn the_policy_of_an_invalid_resource_is_in_force() {
    let trial = with_volumes().await;
    trial.change_spec(|spec| {
        spec["deletionPolicy"] = json!("Retain");
        spec["images"]["redis"] = json!("");
    });
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Invalid);
    assert_eq!(owners(&trial), [""; 0]);
    assert_eq!(in_force(&trial), "Retain");
    assert_eq!(trial.condition("Ready")["reason"], "Invalid");
}

#[tokio::test]
async fn the_policy_is_in_force_although_other_objects_cannot_be_read() {
    let trial = with_volumes().await;
    trial.api.refuse("LIST networkpolicies", 403);
    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Retain"));
    trial.reconcile().await.unwrap_err();
    assert_eq!(owners(&trial), [""; 0]);
    assert_eq!(in_force(&trial), "Retain");
}

#[tokio::test]
async fn a_policy_that_cannot_be_enforced_is_not_reported_and_hinders_nothing_else() {
    let trial = with_volumes().await;
    trial.api.refuse("MERGE persistentvolumeclaims/data-ledger-redis-0", 403);
    trial.change_spec(|spec| {
        spec["deletionPolicy"] = json!("Retain");
        spec["aggregator"]["replicas"] = json!(1);
    });
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Forbidden);
    assert!(error.to_string().contains("data-ledger-redis-0"), "{error}");
    assert_eq!(in_force(&trial), "Delete", "one volume would be deleted");
    assert_eq!(owners(&trial), ["EventAggregator"], "the others are not");
    assert!(trial.api.writes().contains(&"APPLY statefulsets/ledger-aggregator".to_owned()));
}

/// An earlier version let the StatefulSet own the volumes.
#[tokio::test]
async fn volumes_that_belong_to_their_set_are_taken_from_it_also_while_paused() {
    let trial = with_volumes().await;
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": true,
        "name": "ledger-redis", "uid": format!("uid-of-{SETS}/ledger-redis")});
    for policy in ["Delete", "Retain"] {
        trial.api.change(&format!("{SETS}/ledger-redis"), |set| {
            set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] = json!("Delete");
        });
        trial.api.change(&format!("{PVCS}/data-ledger-redis-0"), |pvc| {
            pvc["metadata"]["ownerReferences"] = json!([owner]);
        });
        trial.change_spec(|spec| {
            spec["deletionPolicy"] = json!(policy);
            spec["paused"] = json!(true);
        });
        trial.reconcile().await.unwrap();
        let set = trial.api.get(&format!("{SETS}/ledger-redis")).unwrap();
        assert_eq!(set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Retain");
        assert_eq!(in_force(&trial), Value::Null, "the controller of the set may not have seen this yet");
        trial.reconcile().await.unwrap();
        assert_eq!(in_force(&trial), policy);
        assert_eq!(owners(&trial).len(), if policy == "Delete" { 4 } else { 0 });
        assert!(!owners(&trial).contains(&json!("StatefulSet")));
    }
}

#[tokio::test]
async fn a_volume_that_is_being_deleted_or_belongs_to_somebody_else_is_left_alone() {
    let trial = with_volumes().await;
    let redis = format!("{PVCS}/data-ledger-redis-0");
    let theirs = json!([{"apiVersion": "v1", "kind": "Pod", "controller": true, "name": "x", "uid": "theirs"}]);
    trial.api.change(&redis, |pvc| pvc["metadata"]["ownerReferences"] = theirs.clone());
    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Retain"));
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::WaitingForDeletion);
    assert_eq!(trial.api.get(&redis).unwrap()["metadata"]["ownerReferences"], theirs);
}

#[tokio::test]
async fn objects_with_our_labels_and_names_of_their_own_are_left_alone() {
    let trial = with_volumes().await;
    let mut theirs = trial.api.get(&format!("{SECRETS}/ledger-redis")).unwrap();
    theirs["metadata"]["name"] = json!("theirs");
    theirs["metadata"]["ownerReferences"] = json!([]);
    trial.api.put(&format!("{SECRETS}/theirs"), theirs.clone());
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(&format!("{SECRETS}/theirs")), Some(theirs));
}

/// Removes all labels of an object.
fn unlabel(trial: &Trial, path: &str) {
    trial.api.change(path, |object| object["metadata"]["labels"] = json!({"team": "blue"}));
}

fn labels(trial: &Trial, path: &str) -> Value {
    trial.api.get(path).unwrap()["metadata"]["labels"].clone()
}

#[tokio::test]
async fn removed_labels_of_volumes_and_passwords_are_put_back() {
    let trial = with_volumes().await;
    let (secret, pvc) = (format!("{SECRETS}/ledger-redis"), format!("{PVCS}/data-ledger-redis-0"));
    let password = trial.api.get(&secret).unwrap()["data"].clone();
    unlabel(&trial, &secret);
    unlabel(&trial, &pvc);
    trial.reconcile().await.unwrap();
    for path in [&secret, &pvc] {
        let expected = json!({"team": "blue", "app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
            "app.kubernetes.io/component": "redis", "app.kubernetes.io/managed-by": "sluice-operator"});
        assert_eq!(labels(&trial, path), expected, "{path}");
    }
    assert_eq!(trial.api.get(&secret).unwrap()["data"], password);
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_volume_without_labels_grows_and_keeps_its_data_as_the_policy_says() {
    let trial = with_volumes().await;
    let pvc = format!("{PVCS}/data-ledger-redis-0");
    unlabel(&trial, &pvc);
    trial.change_spec(|spec| {
        spec["deletionPolicy"] = json!("Retain");
        spec["redis"]["managed"]["storage"]["size"] = json!("6Gi");
    });
    trial.reconcile().await.unwrap();
    let pvc = trial.api.get(&pvc).unwrap();
    assert_eq!(pvc["spec"]["resources"]["requests"]["storage"], "6Gi");
    assert_eq!(owners(&trial), [""; 0]);
}

#[tokio::test]
async fn a_password_that_stayed_is_taken_over_without_its_labels_and_one_of_somebody_else_is_not() {
    let secret = |labels: Value, manager: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "ledger-redis", "namespace": "accounts", "labels": labels, "resourceVersion": "1",
            "managedFields": [{"manager": manager, "operation": "Update", "apiVersion": "v1"}]},
            "data": {"password": "b2xk"}})
    };
    let selector = json!({"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
        "app.kubernetes.io/component": "redis"});
    for ours in [secret(json!({}), "sluice-operator"), secret(selector, "restore")] {
        let trial = Trial::new();
        trial.api.put(&format!("{SECRETS}/ledger-redis"), ours);
        trial.reconcile().await.unwrap();
        let taken = trial.api.get(&format!("{SECRETS}/ledger-redis")).unwrap();
        assert_eq!(taken["data"]["password"], "b2xk");
        assert_eq!(taken["metadata"]["labels"]["app.kubernetes.io/managed-by"], "sluice-operator");
        assert_eq!(taken["metadata"]["ownerReferences"][0]["kind"], "EventAggregator", "its policy is Delete");
    }
    let theirs = secret(json!({"app.kubernetes.io/instance": "ledger", "app.kubernetes.io/name": "redis"}), "helm");
    let trial = Trial::new();
    trial.api.put(&format!("{SECRETS}/ledger-redis"), theirs.clone());
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::NameTaken);
    assert_eq!(trial.api.get(&format!("{SECRETS}/ledger-redis")), Some(theirs));
}
