//! What the operator creates for the Prometheus Operator.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Objects of the Prometheus Operator. They are created where the cluster has their definitions, and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitoringSpec {
    /// The PodMonitor, by which Prometheus finds publishers and aggregators. With `networkPolicy.clients`, and for the
    /// aggregators in any case, Prometheus must be one of `networkPolicy.scrapers`.
    pub pod_monitor: PodMonitorSpec,
    /// The PrometheusRule with the alerts of this resource.
    pub prometheus_rule: PrometheusRuleSpec,
}

/// The PodMonitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMonitorSpec {
    /// Whether it is created.
    pub enabled: bool,
    /// Labels by which a Prometheus selects it.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Time between two scrapes, such as `30s`; if absent, that of Prometheus.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}(s|m)$"), length(max = 8))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

impl Default for PodMonitorSpec {
    fn default() -> Self {
        Self { enabled: true, labels: BTreeMap::new(), interval: None }
    }
}

/// The PrometheusRule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PrometheusRuleSpec {
    /// Whether it is created.
    pub enabled: bool,
    /// Labels by which a Prometheus selects it.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Default for PrometheusRuleSpec {
    fn default() -> Self {
        Self { enabled: true, labels: BTreeMap::new() }
    }
}
