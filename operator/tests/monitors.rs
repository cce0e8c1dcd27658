//! The PodMonitor and the PrometheusRule of a resource, and clusters that have no such kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use support::trial::Trial;

const MONITORS: &str = "/apis/monitoring.coreos.com/v1/namespaces/accounts";

#[tokio::test]
async fn prometheus_finds_the_programs_and_the_alerts_of_a_resource() {
    let trial = Trial::new();
    trial.change_spec(|spec| {
        let labels = json!({"release": "prometheus"});
        spec["monitoring"] =
            json!({"podMonitor": {"labels": labels, "interval": "15s"}, "prometheusRule": {"labels": labels}});
    });
    trial.reconcile().await.unwrap();
    let monitor = trial.api.get(&format!("{MONITORS}/podmonitors/ledger-programs")).unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let relabelings = json!([
        {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"], "targetLabel": "eventaggregator"},
        {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "component"},
    ]);
    let endpoint = json!({"port": "http", "path": "/metrics", "interval": "15s", "relabelings": relabelings});
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([endpoint]));
    assert_eq!(monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"], "ledger");
    let rule = trial.api.get(&format!("{MONITORS}/prometheusrules/ledger-alerts")).unwrap();
    let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let memory = rules.iter().find(|rule| rule["alert"] == "SluiceRedisMemory").unwrap();
    let labels = "{namespace=\"accounts\",pod=~\"ledger-(publisher|aggregator)-.+\"}";
    let expected = format!("max by (namespace, eventaggregator) (sluice_publish_log_memory_ratio{labels}) > 0.7");
    assert_eq!(memory["expr"], expected);
    assert_eq!(memory["labels"]["eventaggregator"], "ledger");
    let url = "https://runbooks.example/sluice#sluiceredismemory";
    assert_eq!(memory["annotations"]["runbook_url"], url, "as the operator's settings say");

    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_turned_off_is_removed_and_a_resource_that_hibernates_raises_no_alert() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let exist = || {
        let paths = ["podmonitors/ledger-programs", "prometheusrules/ledger-alerts"];
        paths.map(|path| trial.api.get(&format!("{MONITORS}/{path}")).is_some())
    };
    assert_eq!(exist(), [true, true]);
    trial.change_spec(|spec| spec["hibernated"] = json!(true));
    trial.reconcile().await.unwrap();
    assert_eq!(exist(), [true, false]);
    trial.change_spec(|spec| {
        spec["hibernated"] = json!(false);
        spec["monitoring"] = json!({"podMonitor": {"enabled": false}, "prometheusRule": {"enabled": false}});
    });
    trial.reconcile().await.unwrap();
    assert_eq!(exist(), [false, false]);
}

#[tokio::test]
async fn a_cluster_without_the_prometheus_operator_is_asked_for_its_kinds_once() {
    let trial = Trial::new();
    for kind in ["podmonitors", "prometheusrules"] {
        trial.api.refuse(&format!("LIST {kind}"), 404);
    }
    let asked = || {
        let calls = trial.api.calls();
        let about = |call: &&String| call.contains("podmonitors") || call.contains("prometheusrules");
        calls.iter().filter(about).cloned().collect::<Vec<_>>()
    };
    trial.reconcile().await.unwrap();
    assert_eq!(asked(), ["LIST podmonitors", "LIST prometheusrules"]);
    trial.reconcile().await.unwrap();
    assert_eq!(asked(), Vec::<String>::new());
}
