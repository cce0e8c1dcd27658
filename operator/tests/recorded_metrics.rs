//! The metrics of an operator, recorded for the test of the alerts and dashboards, which has no cluster. This test compares
//! the recorded series with those of this version. BLESS=1 records them again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use kube::core::DeserializeGuard;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::json;
use sluice_operator::crd::EventAggregator;
use sluice_operator::metrics::{ALL, API_REQUESTS, LEADER, MISSING_FIELDS};
use sluice_operator::resource_metrics::Resources;
use sluice_service::metrics::{RESIDENT_MEMORY_BYTES, install};
use support::trial::{RESOURCE, Trial};

/// Returns the series of a text: names with labels, without values.
fn series(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
}

/// Returns the metrics of an operator that has reconciled a resource with TLS and backups, once in vain.
async fn metrics() -> String {
    let recorder = install();
    let trial = Trial::new();
    trial.change_spec(|spec| {
        spec["tls"] = json!({"enabled": true});
        spec["postgres"]["managed"]["backup"] = json!({"schedule": "0 3 * * *", "keep": 3, "to": {"claim": "backups"}});
    });
    trial.api.refuse("APPLY services", 403);
    trial.reconcile().await.unwrap_err();
    trial.api.allow("APPLY services");
    let _ = trial.reconcile().await;
    for (component, size) in [("redis", "3Gi"), ("postgres", "20Gi")] {
        trial.make_pvc(component, size);
    }
    trial.finish_rollouts();
    for _ in 0..3 {
        trial.reconcile().await.unwrap();
    }
    // What `run` records beside the reconciler, which needs an API server with leases and a definition.
    metrics::gauge!(LEADER.name).set(1.0);
    metrics::gauge!(MISSING_FIELDS.name).set(0.0);
    metrics::gauge!(RESIDENT_MEMORY_BYTES.name).set(5e7);
    for verb in ["get", "list", "watch", "patch", "create", "update"] {
        metrics::counter!(API_REQUESTS.name, "verb" => verb).increment(7);
    }
    let mut resource: EventAggregator = serde_json::from_value(trial.api.get(RESOURCE).unwrap()).unwrap();
    let status = resource.status.as_mut().unwrap();
    status.backlog = Some(12);
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(resource))));
    let resources = Resources::default();
    resources.add(store);
    recorder.render() + &resources.render()
}

#[tokio::test]
async fn the_recorded_metrics_have_the_series_of_this_version() {
    let made = metrics().await;
    for metric in ALL {
        let has = |name: &str| made.lines().any(|line| line.starts_with(name));
        assert!(has(metric.name), "{} is not in\n{made}", metric.name);
    }
    let path = format!("{}/../tests/observability/operator.prom", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap();
    let (made, recorded) = (series(&made), series(&recorded));
    let differ: Vec<_> = made.symmetric_difference(&recorded).collect();
    assert!(differ.is_empty(), "{path} has other series (BLESS=1 records them again): {differ:#?}");
}
