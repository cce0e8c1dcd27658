//! A PostgreSQL that CloudNativePG runs, from the first reconcile to the last.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sluice_operator::controller::reason::Reason;
use support::clusters::{CLUSTER, finish_rollouts, make_ready, make_secrets, ready, report, with_cluster};
use support::trial::{RESOURCE, SECRETS, SETS, Trial};

const AGGREGATORS: &str = "/apis/apps/v1/namespaces/accounts/statefulsets/ledger-aggregator";

fn aggregators(trial: &Trial) -> Value {
    trial.api.get(AGGREGATORS).unwrap()["spec"]["replicas"].clone()
}

/// Returns the status, the reason and the message of a condition.
fn condition(trial: &Trial, name: &str) -> (String, String, String) {
    let condition = trial.condition(name);
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_cluster_without_cloud_native_pg_is_told_so_until_it_is_installed() {
    let trial = with_cluster(json!({}));
    trial.api.refuse("LIST clusters", 404);
    let error = trial.reconcile().await.unwrap_err();
    assert!(error.is_retryable(), "it is tried again although no watch may tell");
    let (status, reason, message) = condition(&trial, "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "CloudNativePGMissing"));
    assert!(message.contains("no clusters of postgresql.cnpg.io/v1: install CloudNativePG"), "{message}");
    assert!(trial.api.get(AGGREGATORS).is_none());

    trial.api.allow("LIST clusters");
    assert!(trial.context.optional.has_appeared("clusters"), "the watch tells of it");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(CLUSTER).unwrap()["spec"]["instances"], 3);
}

#[tokio::test]
async fn an_answer_that_is_older_than_the_watch_does_not_hide_a_kind_for_ever() {
    let trial = with_cluster(json!({}));
    assert!(!trial.context.optional.has_appeared("clusters"), "nothing said before that there are none");
    trial.api.refuse("LIST clusters", 404);
    let error = trial.reconcile().await.unwrap_err();
    assert!(error.is_retryable() && error.reason() != Reason::CloudNativePGMissing, "{error}");

    trial.api.allow("LIST clusters");
    trial.reconcile().await.unwrap();
    assert!(trial.api.get(CLUSTER).is_some(), "no watch has to tell of it again");
}

#[tokio::test]
async fn a_schedule_of_backups_needs_its_definition_too() {
    let trial = with_cluster(json!({"backup": {"schedule": "0 3 * * *", "volumeSnapshot": {}}}));
    trial.api.refuse("LIST scheduledbackups", 404);
    assert_eq!(trial.reconcile().await.unwrap_err().reason(), Reason::CloudNativePGMissing);
    assert!(condition(&trial, "Ready").2.contains("scheduledbackups"));
}

#[tokio::test]
async fn a_resource_with_another_postgresql_does_not_ask_for_clusters() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let calls = trial.api.calls();
    assert!(!calls.iter().any(|call| call.contains("clusters") || call.contains("scheduledbackups")), "{calls:?}");
}

#[tokio::test]
async fn aggregators_start_when_the_secrets_and_an_instance_are_there() {
    let trial = with_cluster(json!({}));
    let waits = |words: &str| {
        assert_eq!(aggregators(&trial), 0);
        let (status, reason, message) = condition(&trial, "AggregatorReady");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "WaitingForPostgres"));
        assert!(message.contains(words), "{message}");
        assert_eq!(condition(&trial, "Ready").0, "False");
        assert_eq!(condition(&trial, "Progressing").0, "True");
    };
    trial.reconcile().await.unwrap();
    waits("Secret ledger-postgres-app with the key password");
    assert!(condition(&trial, "PostgresReady").2.contains("the operator of CloudNativePG does not run"));

    make_secrets(&trial, "secret");
    report(&trial, "Setting up primary", 0);
    trial.reconcile().await.unwrap();
    waits("a ready instance of Cluster ledger-postgres");
    assert_eq!(
        condition(&trial, "PostgresReady").2,
        "0 of 3 instances of Cluster ledger-postgres are ready; Setting up primary"
    );

    report(&trial, "Creating a new replica", 1);
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 3);
    report(&trial, "Cluster in healthy state", 3);
    finish_rollouts(&trial);
    trial.reconcile().await.unwrap();
    assert_eq!(condition(&trial, "Ready").0, "True");
    let (status, reason, message) = condition(&trial, "PostgresReady");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Ready"));
    assert_eq!(message, "3 of 3 instances of Cluster ledger-postgres are ready");
    assert!(trial.api.get(&format!("{SETS}/ledger-postgres")).is_none(), "there is no managed server");
    assert!(trial.api.get(&format!("{SECRETS}/ledger-postgres")).is_none(), "and no password of ours");
}

#[tokio::test]
async fn aggregators_that_have_started_are_not_stopped_when_the_cluster_is_away() {
    let trial = ready().await;
    report(&trial, "Failing over", 0);
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 3);
    let (status, reason, message) = condition(&trial, "PostgresReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Starting"));
    assert!(message.ends_with("Failing over"), "{message}");

    // Pods with a Secret that is gone could not start again.
    trial.api.remove(&format!("{SECRETS}/ledger-postgres-app"));
    trial.api.calls();
    assert_eq!(trial.reconcile().await.unwrap_err().reason(), Reason::SecretMissing);
    assert!(condition(&trial, "Ready").2.contains("ledger-postgres-app"));
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.contains("statefulsets")), "{writes:?}");
}

#[tokio::test]
async fn phases_for_which_waiting_is_not_enough_are_told_apart() {
    let trial = ready().await;
    for (phase, ready, expected) in [
        ("Upgrading cluster", 3, ("RollingOut", "True")),
        ("Creating a new replica", 2, ("Starting", "True")),
        ("Cluster in healthy state", 2, ("Starting", "True")),
        ("Waiting for user action", 3, ("ClusterUnhealthy", "False")),
        ("Not enough disk space", 0, ("ClusterUnhealthy", "False")),
    ] {
        report(&trial, phase, ready);
        trial.api.change(CLUSTER, |cluster| cluster["status"]["phaseReason"] = json!("because of it"));
        trial.reconcile().await.unwrap();
        let (_, reason, message) = condition(&trial, "PostgresReady");
        assert_eq!((reason.as_str(), condition(&trial, "Progressing").0.as_str()), expected, "{phase}: {message}");
        assert!(phase.contains("healthy") || message.contains(phase) && message.contains("because of it"), "{message}");
    }
}

#[tokio::test]
async fn aggregators_check_the_certificate_of_the_primary() {
    let trial = ready().await;
    let pod = trial.api.get(AGGREGATORS).unwrap()["spec"]["template"]["spec"].clone();
    let env = pod["containers"][0]["env"].as_array().unwrap().clone();
    let variable = |name: &str| env.iter().find(|variable| variable["name"] == name).cloned().unwrap_or_default();
    assert_eq!(
        variable("SLUICE_DATABASE_URL")["value"],
        "postgres://sluice:$(POSTGRES_PASSWORD)@ledger-postgres-rw.accounts.svc:5432/sluice?sslmode=verify-full\
         &sslrootcert=/etc/sluice-tls/postgres-ca/ca.crt"
    );
    let secret = &variable("POSTGRES_PASSWORD")["valueFrom"]["secretKeyRef"];
    assert_eq!(*secret, json!({"name": "ledger-postgres-app", "key": "password"}));
    let volumes = pod["volumes"].as_array().unwrap();
    let ca = volumes.iter().find(|volume| volume["name"] == "tls-postgres-ca").unwrap();
    assert_eq!(ca["secret"]["secretName"], "ledger-postgres-ca");
    assert_eq!(ca["secret"]["items"], json!([{"key": "ca.crt", "path": "ca.crt"}]), "its private key is not mounted");
}

#[tokio::test]
async fn a_changed_password_replaces_the_aggregators_and_one_that_fits_in_no_url_is_refused() {
    let trial = ready().await;
    let hash = || {
        let template = trial.api.get(AGGREGATORS).unwrap()["spec"]["template"].clone();
        template["metadata"]["annotations"]["sluice.dev/postgres-secret"].clone()
    };
    let before = hash();
    make_secrets(&trial, "changed");
    trial.reconcile().await.unwrap();
    assert!(before.is_string() && before != hash());
    make_secrets(&trial, "p@ss");
    assert_eq!(trial.reconcile().await.unwrap_err().reason(), Reason::SecretInvalid);
}

#[tokio::test]
async fn drift_of_a_cluster_is_repaired_and_what_cloud_native_pg_adds_stays() {
    let trial = ready().await;
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0], "nothing is left to do");
    trial.api.change(CLUSTER, |cluster| {
        cluster["spec"]["logLevel"] = json!("info");
        cluster["spec"]["postgresql"]["parameters"]["wal_keep_size"] = json!("512MB");
        cluster["spec"]["affinity"] = json!({"podAntiAffinityType": "preferred"});
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
    trial.api.change(CLUSTER, |cluster| {
        cluster["spec"]["instances"] = json!(1);
        cluster["spec"]["postgresql"]["synchronous"]["number"] = json!(2);
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes()[0], "APPLY clusters/ledger-postgres");
    let spec = trial.api.get(CLUSTER).unwrap()["spec"].clone();
    assert_eq!((&spec["instances"], &spec["postgresql"]["synchronous"]["number"]), (&json!(3), &json!(1)));
    assert_eq!(spec["logLevel"], "info");
}

#[tokio::test]
async fn a_cluster_of_somebody_else_is_left_alone() {
    let trial = with_cluster(json!({}));
    let theirs = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "ledger-postgres", "namespace": "accounts", "uid": "theirs"}, "spec": {"instances": 1}});
    trial.api.put(CLUSTER, theirs.clone());
    assert_eq!(trial.reconcile().await.unwrap_err().reason(), Reason::NameTaken);
    assert_eq!(trial.api.get(CLUSTER).unwrap(), theirs);
}

#[tokio::test]
async fn what_cloud_native_pg_refuses_is_in_the_status() {
    for (code, message) in [
        (422, "the webhook of CloudNativePG denied it"),
        (500, "failed to create typed patch object (…): .spec.x: field not declared in schema"),
    ] {
        let trial = with_cluster(json!({}));
        trial.api.refuse_saying("APPLY clusters", code, message);
        assert_eq!(trial.reconcile().await.unwrap_err().reason(), Reason::Rejected);
        assert!(condition(&trial, "Ready").2.contains(message), "{:?}", condition(&trial, "Ready"));
        assert!(trial.api.get(AGGREGATORS).is_none(), "no pods without their server");
    }
}

#[tokio::test]
async fn a_cluster_is_deleted_with_its_resource_only_if_the_policy_says_so() {
    let trial = ready().await;
    let owners = || trial.api.get(CLUSTER).unwrap()["metadata"]["ownerReferences"].clone();
    let in_force = || trial.api.get(RESOURCE).unwrap()["status"]["deletionPolicy"].clone();
    assert_eq!((owners()[0]["kind"].clone(), in_force()), (json!("EventAggregator"), json!("Delete")));
    // A paused resource can be deleted too.
    for (policy, count) in [("Retain", 0), ("Delete", 1), ("Retain", 0)] {
        trial.change_spec(|spec| {
            spec["paused"] = json!(count == 0);
            spec["deletionPolicy"] = json!(policy);
        });
        trial.reconcile().await.unwrap();
        assert_eq!((owners().as_array().map_or(0, Vec::len), in_force()), (count, json!(policy)));
    }
    trial.change_spec(|spec| spec["paused"] = json!(false));
    trial.reconcile().await.unwrap();
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_new_resource_uses_the_cluster_that_an_earlier_one_of_its_name_retained() {
    let trial = ready().await;
    trial.change_spec(|spec| spec["deletionPolicy"] = json!("Retain"));
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| {
        resource["metadata"]["uid"] = json!("another");
        resource["status"] = json!({});
    });
    for kind in ["statefulsets/ledger-aggregator", "statefulsets/ledger-redis", "deployments/ledger-publisher"] {
        trial.api.remove(&format!("/apis/apps/v1/namespaces/accounts/{kind}"));
    }
    // Its labels are how it is found.
    trial.api.change(CLUSTER, |cluster| cluster["metadata"]["labels"] = json!({}));
    let _ = trial.reconcile().await;
    let labels = trial.api.get(CLUSTER).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["app.kubernetes.io/instance"], "ledger");
    assert_eq!(trial.api.get(CLUSTER).unwrap()["spec"]["instances"], 3);
}

#[tokio::test]
async fn a_cluster_hibernates_when_no_pod_uses_it_and_aggregators_wait_when_it_wakes() {
    let trial = ready().await;
    let annotation = || trial.api.get(CLUSTER).unwrap()["metadata"]["annotations"]["cnpg.io/hibernation"].clone();
    let pod = "/api/v1/namespaces/accounts/pods/ledger-aggregator-0";
    trial.api.put(
        pod,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ledger-aggregator-0", "namespace": "accounts",
            "labels": {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
            "app.kubernetes.io/component": "aggregator", "app.kubernetes.io/managed-by": "sluice-operator"}}}),
    );
    assert_eq!(annotation(), "off");
    trial.change_spec(|spec| spec["hibernated"] = json!(true));
    trial.reconcile().await.unwrap();
    assert_eq!(annotation(), "off", "an aggregator runs");
    trial.api.remove(pod);
    trial.reconcile().await.unwrap();
    assert_eq!(annotation(), "on");
    finish_rollouts(&trial);
    trial.reconcile().await.unwrap();
    let (_, reason, message) = condition(&trial, "Ready");
    assert_eq!((reason.as_str(), message.contains("3 postgres left")), ("Hibernating", true), "{message}");

    trial.api.change(CLUSTER, |cluster| {
        cluster["status"]["readyInstances"] = json!(0);
        cluster["status"]["conditions"] = json!([{"type": "cnpg.io/hibernation", "status": "True"}]);
    });
    trial.reconcile().await.unwrap();
    assert_eq!(condition(&trial, "Ready").1, "Hibernated");
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);

    trial.change_spec(|spec| spec["hibernated"] = json!(false));
    trial.reconcile().await.unwrap();
    assert_eq!((annotation(), aggregators(&trial)), (json!("off"), json!(0)));
    assert_eq!(condition(&trial, "AggregatorReady").1, "WaitingForPostgres");
    make_ready(&trial);
    trial.reconcile().await.unwrap();
    assert_eq!(aggregators(&trial), 3);
}
