//! The objects of a resource, by kind.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;

use super::cloud_native_pg::kinds::{Cluster, ScheduledBackup};
use super::http_route::HttpRoute;
use super::monitors::pod_monitor::PodMonitor;
use super::monitors::prometheus_rule::PrometheusRule;

/// Objects by kind, in the order in which they are applied: objects that a pod needs come before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "a field is named like its kind")]
pub struct Objects {
    pub service_accounts: Vec<ServiceAccount>,
    pub config_maps: Vec<ConfigMap>,
    pub network_policies: Vec<NetworkPolicy>,
    pub services: Vec<Service>,
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scheduled_backups: Vec<ScheduledBackup>,
    pub stateful_sets: Vec<StatefulSet>,
    pub deployments: Vec<Deployment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingresses: Vec<Ingress>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_routes: Vec<HttpRoute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod_monitors: Vec<PodMonitor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prometheus_rules: Vec<PrometheusRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cron_jobs: Vec<CronJob>,
}

impl Objects {
    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.service_accounts.len()
            + self.config_maps.len()
            + self.network_policies.len()
            + self.services.len()
            + self.disruption_budgets.len()
            + self.clusters.len()
            + self.scheduled_backups.len()
            + self.stateful_sets.len()
            + self.deployments.len()
            + self.autoscalers.len()
            + self.ingresses.len()
            + self.http_routes.len()
            + self.pod_monitors.len()
            + self.prometheus_rules.len()
            + self.cron_jobs.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
