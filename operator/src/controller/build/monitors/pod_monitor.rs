//! The PodMonitor of publishers and aggregators. Its type has the fields that the operator sets
//! (<https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor>).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::metadata;
use crate::contract::METRICS_PATH;
use crate::controller::build::cloud_native_pg::instances;
use crate::controller::build::names::{COMPONENT, Component, INSTANCE};
use crate::controller::build::tls;
use crate::controller::plan::{Backend, Plan};

/// The spec of a PodMonitor.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "PodMonitor",
    plural = "podmonitors",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorFields {
    /// The pods.
    #[serde(default)]
    pub selector: LabelSelector,
    /// Where each pod has its metrics.
    #[serde(default)]
    pub pod_metrics_endpoints: Vec<Endpoint>,
}

/// Where a pod has its metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the port.
    pub port: String,
    /// The path; `/metrics` if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Time between two scrapes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Labels that all metrics get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relabelings: Vec<Relabeling>,
}

/// A label whose value is that of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relabeling {
    /// The labels of the pod, as Prometheus names them.
    #[serde(default)]
    pub source_labels: Vec<String>,
    /// The label of the metrics.
    #[serde(default)]
    pub target_label: String,
}

/// Returns the labels by which dashboards and rules tell resources and their components apart.
fn relabelings() -> Vec<Relabeling> {
    let labels = [(INSTANCE, "eventaggregator"), (COMPONENT, "component")];
    let relabeling = |(of_pod, target): (&str, &str)| Relabeling {
        source_labels: vec![format!("__meta_kubernetes_pod_label_{}", of_pod.replace(['.', '/'], "_"))],
        target_label: target.to_owned(),
    };
    labels.map(relabeling).into()
}

/// Returns the PodMonitor, if the plan has one.
pub(in super::super) fn build(plan: &Plan) -> Option<PodMonitor> {
    let wanted = plan.pod_monitor.as_ref()?;
    let components = [Component::Publisher, Component::Aggregator].map(|component| component.as_str().to_owned());
    let programs = LabelSelectorRequirement {
        key: COMPONENT.to_owned(),
        operator: "In".to_owned(),
        values: Some(components.into()),
    };
    let selector =
        LabelSelector { match_labels: Some(plan.names.selector_of_pods()), match_expressions: Some(vec![programs]) };
    let endpoint = Endpoint {
        port: tls::probed_port(plan).to_owned(),
        path: Some(METRICS_PATH.to_owned()),
        interval: wanted.interval.clone(),
        relabelings: relabelings(),
    };
    let spec = PodMonitorFields { selector, pod_metrics_endpoints: vec![endpoint] };
    Some(PodMonitor { metadata: metadata(plan, "programs", &wanted.labels), spec })
}

/// Returns the PodMonitor of the instances of a Cluster of CloudNativePG, if the plan has both. CloudNativePG can make one
/// itself, but will cease to, and that one has no labels by which a Prometheus selects it.
pub(in super::super) fn of_cluster(plan: &Plan) -> Option<PodMonitor> {
    let wanted = plan.pod_monitor.as_ref().filter(|_| matches!(plan.postgres, Backend::Cluster(_)))?;
    let endpoint =
        Endpoint { port: "metrics".to_owned(), path: None, interval: wanted.interval.clone(), relabelings: Vec::new() };
    let spec = PodMonitorFields { selector: instances(plan), pod_metrics_endpoints: vec![endpoint] };
    Some(PodMonitor { metadata: metadata(plan, "postgres-metrics", &wanted.labels), spec })
}
