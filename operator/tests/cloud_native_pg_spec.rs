//! What the operator tells CloudNativePG.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sluice_operator::controller::build::build;
use sluice_operator::controller::validate::validate;
use sluice_operator::crd::EventAggregator;
use support::clusters::{CLUSTER, with_cluster};

const BACKUP: &str = "/apis/postgresql.cnpg.io/v1/namespaces/accounts/scheduledbackups/ledger-postgres";

/// Returns the spec of the Cluster, and that of its ScheduledBackup.
fn specs(cluster: Value) -> (Value, Value) {
    let resource = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator",
        "metadata": {"name": "shop", "namespace": "shops", "uid": "u"}, "spec": {"postgres": {"cloudNativePG": cluster}}});
    let resource: EventAggregator = serde_json::from_value(resource).unwrap();
    let plan = validate(&resource, &support::external_secrets(), &support::defaults(), None).unwrap();
    let objects = serde_json::to_value(build(&plan, &Default::default())).unwrap();
    (objects["clusters"][0]["spec"].clone(), objects["scheduledBackups"][0]["spec"].clone())
}

#[test]
fn a_commit_waits_for_a_standby_unless_there_is_none_or_the_user_says_otherwise() {
    let synchronous = |cluster: Value| specs(cluster).0["postgresql"]["synchronous"].clone();
    let required = json!({"method": "any", "number": 1, "dataDurability": "required"});
    assert_eq!(synchronous(json!({})), required);
    assert_eq!(synchronous(json!({"instances": 1})), Value::Null);
    assert_eq!(synchronous(json!({"synchronous": {"enabled": false}})), Value::Null);
    assert_eq!(synchronous(json!({"synchronous": {"dataDurability": "preferred"}}))["dataDurability"], "preferred");
}

#[test]
fn the_server_is_tuned_for_its_memory_and_parameters_of_the_user_win() {
    let (spec, _) = specs(
        json!({"resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "6Gi"}}, "storage": {"size": "40Gi"},
        "parameters": {"work_mem": "7MB"}}),
    );
    let parameters = &spec["postgresql"]["parameters"];
    assert_eq!((&parameters["shared_buffers"], &parameters["max_wal_size"]), (&json!("1024MB"), &json!("5120MB")));
    assert_eq!((&parameters["work_mem"], &parameters["max_connections"]), (&json!("7MB"), &json!("819")));
    let (spec, _) = specs(json!({"storage": {"size": "40Gi"}, "walStorage": {"size": "4Gi"}}));
    assert_eq!(spec["resources"]["requests"], json!({"cpu": "100m", "memory": "1Gi"}));
    assert_eq!(spec["postgresql"]["parameters"]["max_wal_size"], "512MB", "an eighth of the volume on which it is");
}

#[test]
fn a_short_cluster_says_nothing_that_cloud_native_pg_knows_better() {
    let (spec, backup) = specs(json!({}));
    let fields: Vec<_> = spec.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["bootstrap", "imagePullPolicy", "instances", "postgresql", "resources", "storage"];
    assert_eq!((fields, backup), (expected.to_vec(), Value::Null));
    assert_eq!(specs(json!({"image": "postgres:17"})).0["imageName"], "postgres:17");
}

#[test]
fn each_method_of_backups_is_told_to_the_cluster_and_to_the_schedule() {
    let of = |method: &str, value: Value| specs(json!({"backup": {"schedule": "0 3 * * *", method: value}}));
    let store = json!({"destinationPath": "s3://b/", "data": {"jobs": 2}});
    let (cluster, schedule) = of("barmanObjectStore", store.clone());
    assert_eq!(cluster["backup"], json!({"barmanObjectStore": store}));
    assert_eq!((&schedule["method"], &schedule["schedule"]), (&json!("barmanObjectStore"), &json!("0 0 3 * * *")));
    assert_eq!(schedule["cluster"]["name"], "shop-postgres");
    let (cluster, schedule) = of("volumeSnapshot", json!({"className": "fast"}));
    assert_eq!(
        (&cluster["backup"]["volumeSnapshot"]["className"], &schedule["method"]),
        (&json!("fast"), &json!("volumeSnapshot"))
    );
    let (cluster, schedule) = of("plugin", json!({"name": "store.example", "parameters": {"a": "b"}}));
    assert_eq!(cluster["backup"], Value::Null);
    assert_eq!(cluster["plugins"], json!([{"name": "store.example", "isWALArchiver": true, "parameters": {"a": "b"}}]));
    assert_eq!(
        (&schedule["method"], &schedule["pluginConfiguration"]["name"]),
        (&json!("plugin"), &json!("store.example"))
    );
}

#[tokio::test]
async fn a_schedule_is_suspended_while_the_cluster_hibernates_and_removed_without_backups() {
    let trial = with_cluster(json!({"backup": {"schedule": "0 3 * * *", "volumeSnapshot": {}}}));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(BACKUP).unwrap()["spec"]["suspend"], false);
    trial.change_spec(|spec| spec["hibernated"] = json!(true));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.get(BACKUP).unwrap()["spec"]["suspend"], true);
    trial.change_spec(|spec| spec["postgres"]["cloudNativePG"]["backup"] = Value::Null);
    trial.reconcile().await.unwrap();
    assert!(trial.api.get(BACKUP).is_none() && trial.api.get(CLUSTER).is_some());
}

#[tokio::test]
async fn values_that_cannot_work_are_refused_by_name() {
    for (cluster, field) in [
        (json!({"parameters": {"max_connections": "many"}}), "cloudNativePG.parameters.max_connections"),
        (json!({"parameters": {"max_connections": "40"}}), "cloudNativePG.parameters.max_connections"),
        (json!({"resources": {"limits": {"memory": "64Mi"}}}), "cloudNativePG.resources.limits.memory"),
        (json!({"resources": {"requests": {"memory": "64Mi"}}}), "cloudNativePG.resources.requests.memory"),
        (json!({"resources": {"requests": {"cpu": "lots"}}}), "cloudNativePG.resources.requests.cpu"),
        (json!({"storage": {"size": "much"}}), "cloudNativePG.storage.size"),
        (json!({"walStorage": {"size": "0"}}), "cloudNativePG.walStorage.size"),
        (json!({"backup": {"schedule": "0 25 * * *", "volumeSnapshot": {}}}), "cloudNativePG.backup.schedule"),
    ] {
        let trial = with_cluster(cluster);
        trial.change_spec(|spec| spec["aggregator"]["replicas"] = json!(4));
        let error = trial.reconcile().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("spec.postgres.{field}: ")), "{error}");
    }
}
