//! Metrics of each resource, made of its status when they are asked for. They end with the resource, which metrics that are
//! recorded as things happen would not do.

use std::sync::{Mutex, PoisonError};

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::crd::EventAggregator;
use crate::metrics::{
    RESOURCE_AGGREGATORS, RESOURCE_BACKLOG, RESOURCE_CERTIFICATE_EXPIRY, RESOURCE_CONDITION,
    RESOURCE_DESIRED_AGGREGATORS, RESOURCE_VOLUME_BYTES,
};
use crate::quantity;

/// The resources of all namespaces that are watched. It is empty while another operator reconciles.
#[derive(Default)]
pub struct Resources(Mutex<Vec<Store<DeserializeGuard<EventAggregator>>>>);

impl Resources {
    /// Adds the resources of a namespace.
    pub fn add(&self, store: Store<DeserializeGuard<EventAggregator>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(store);
    }

    /// Returns their metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        // A recorder of its own has the resources of this moment and no others.
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for store in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                store.state().iter().filter_map(|resource| resource.0.as_ref().ok()).for_each(record);
            }
        });
        recorder.handle().render()
    }
}

fn record(resource: &EventAggregator) {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let status = resource.status.clone().unwrap_or_default();
    for condition in status.conditions {
        let value = match condition.status.as_str() {
            "True" => 1.0,
            "False" => 0.0,
            _ => f64::NAN,
        };
        let (namespace, name) = (namespace.clone(), name.clone());
        gauge!(RESOURCE_CONDITION.name, "namespace" => namespace, "name" => name, "condition" => condition.type_)
            .set(value);
    }
    let labels = || (namespace.clone(), name.clone());
    let ((a, b), backlog) = (labels(), status.backlog.map_or(f64::NAN, |backlog| backlog as f64));
    gauge!(RESOURCE_BACKLOG.name, "namespace" => a, "name" => b).set(backlog);
    if let Some(count) = status.replicas {
        let (a, b) = labels();
        gauge!(RESOURCE_AGGREGATORS.name, "namespace" => a, "name" => b).set(f64::from(count));
    }
    if let Some(count) = status.desired_replicas {
        let (a, b) = labels();
        gauge!(RESOURCE_DESIRED_AGGREGATORS.name, "namespace" => a, "name" => b).set(f64::from(count));
    }
    for certificate in status.certificates {
        let ((a, b), end) = (labels(), certificate.not_after.0.as_second() as f64);
        let component = certificate.component;
        gauge!(RESOURCE_CERTIFICATE_EXPIRY.name, "namespace" => a, "name" => b, "component" => component).set(end);
    }
    let volumes = status.volumes.unwrap_or_default();
    for (component, size) in [("redis", volumes.redis), ("postgres", volumes.postgres)] {
        if let Some(bytes) = size.and_then(|size| quantity::whole(&size).ok()) {
            let (a, b) = labels();
            gauge!(RESOURCE_VOLUME_BYTES.name, "namespace" => a, "name" => b, "component" => component)
                .set(bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    fn resource(name: &str, status: serde_json::Value) -> EventAggregator {
        let metadata = json!({"name": name, "namespace": "accounts"});
        let all = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator", "metadata": metadata,
            "spec": {}, "status": status});
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn each_resource_has_its_state_and_loses_it_when_it_is_deleted() {
        let (store, mut writer) = reflector::store();
        let condition = |name: &str, status: &str| {
            json!({"type": name, "status": status, "reason": "X", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let ledger = resource(
            "ledger",
            json!({
                "conditions": [condition("Ready", "False"), condition("RedisReady", "True"), condition("Progressing", "Unknown")],
                "replicas": 2, "desiredReplicas": 3, "backlog": 12, "volumes": {"redis": "4Gi"},
                "certificates": [{"component": "redis", "secretName": "s", "notAfter": "2026-03-01T00:00:00Z"}]
            }),
        );
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(ledger.clone()))));
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(resource("idle", json!({}))))));
        let resources = Resources::default();
        resources.add(store);
        let text = resources.render();
        for line in [
            "sluice_operator_resource_condition{namespace=\"accounts\",name=\"ledger\",condition=\"Ready\"} 0",
            "sluice_operator_resource_condition{namespace=\"accounts\",name=\"ledger\",condition=\"RedisReady\"} 1",
            "sluice_operator_resource_condition{namespace=\"accounts\",name=\"ledger\",condition=\"Progressing\"} NaN",
            "sluice_operator_resource_backlog_events{namespace=\"accounts\",name=\"ledger\"} 12",
            "sluice_operator_resource_backlog_events{namespace=\"accounts\",name=\"idle\"} NaN",
            "sluice_operator_resource_aggregators{namespace=\"accounts\",name=\"ledger\"} 2",
            "sluice_operator_resource_desired_aggregators{namespace=\"accounts\",name=\"ledger\"} 3",
            "sluice_operator_resource_volume_bytes{namespace=\"accounts\",name=\"ledger\",component=\"redis\"} 4294967296",
            "sluice_operator_resource_certificate_expiry_timestamp_seconds{namespace=\"accounts\",name=\"ledger\",component=\"redis\"} 1772323200",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        writer.apply_watcher_event(&Event::Delete(DeserializeGuard(Ok(ledger))));
        assert!(!resources.render().contains("ledger"));
    }
}
