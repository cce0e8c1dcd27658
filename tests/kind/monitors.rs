//! The objects of the Prometheus Operator, with its real definitions. Prometheus itself does not run here.

use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::definitions::Definitions;
use crate::support::objects::{Namespace, SOON, kubectl_in, object};
use crate::support::trial::{NAME, Stage, create, small};

const PROMETHEUS_OPERATOR: Definitions = Definitions {
    module: "github.com/prometheus-operator/prometheus-operator",
    repository: "prometheus-operator/prometheus-operator",
    version: "v0.85.0",
    sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    files: &[
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
};
/// The kind and the name of each.
const MONITOR: [&str; 2] = ["podmonitor", "shop-programs"];
const ALERTS: [&str; 2] = ["prometheusrule", "shop-alerts"];

/// Waits until both objects exist, or neither.
async fn exist(namespace: &Namespace, wanted: bool) {
    wait_until(&format!("the monitor and the alerts exist: {wanted}"), SOON, || async {
        let (monitor, alerts) =
            (object(namespace, MONITOR[0], MONITOR[1]).await, object(namespace, ALERTS[0], ALERTS[1]).await);
        holds([&monitor, &alerts].iter().all(|object| object.is_null() != wanted), || format!("{monitor} {alerts}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_monitor_and_the_alerts_of_a_resource_fit_the_definitions_and_are_put_right_and_removed() {
    PROMETHEUS_OPERATOR.install().await;
    let stage = Stage::shared("monitors").await;
    let namespace = &stage.namespace;
    let mut spec = small(1);
    let labels = json!({ "release": "prometheus" });
    spec["monitoring"] =
        json!({ "podMonitor": { "labels": labels, "interval": "15s" }, "prometheusRule": { "labels": labels } });
    create(namespace, NAME, spec).await;
    exist(namespace, true).await;
    namespace.ready(NAME).await;
    let (monitor, alerts) =
        (object(namespace, MONITOR[0], MONITOR[1]).await, object(namespace, ALERTS[0], ALERTS[1]).await);
    for object in [&monitor, &alerts] {
        assert_eq!(object["metadata"]["labels"]["release"], "prometheus", "{object}");
        assert_eq!(object["metadata"]["generation"], 1, "it is written once: {object}");
    }
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["interval"]), (&json!("http"), &json!("15s")));
    let relabelings = endpoint["relabelings"].as_array().cloned().unwrap_or_default();
    let labels: Vec<_> = relabelings.iter().map(|relabeling| &relabeling["targetLabel"]).collect();
    assert_eq!(labels, ["eventaggregator", "component"], "the API server kept all: {monitor}");
    let rules = alerts["spec"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
    assert!(!rules.is_empty(), "{alerts}");
    for rule in &rules {
        let has = |field: &str| !rule[field].is_null();
        assert!(has("alert") && has("expr") && has("labels") && has("annotations"), "the API server kept all: {rule}");
    }

    kubectl_in(namespace, &["delete", MONITOR[0], MONITOR[1]]).await;
    kubectl_in(namespace, &["delete", ALERTS[0], ALERTS[1]]).await;
    exist(namespace, true).await;
    let off = json!({ "podMonitor": { "enabled": false }, "prometheusRule": { "enabled": false } });
    namespace.patch(NAME, json!({ "spec": { "monitoring": off } })).await;
    exist(namespace, false).await;
}
