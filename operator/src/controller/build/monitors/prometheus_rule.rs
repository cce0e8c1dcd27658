//! The PrometheusRule with the alerts of a resource. Its type has the fields that the operator sets
//! (<https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule>).

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::metadata;
use crate::alerts::{self, Group};
use crate::controller::plan::Plan;

/// The spec of a PrometheusRule.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "PrometheusRule",
    plural = "prometheusrules",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
pub struct PrometheusRuleFields {
    /// The alerts.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// Returns the PrometheusRule, if the plan has one. A resource that hibernates has no pods that could be missed.
pub(in super::super) fn build(plan: &Plan) -> Option<PrometheusRule> {
    let wanted = plan.prometheus_rule.as_ref().filter(|_| !plan.hibernated)?;
    let group = alerts::of_resource(&plan.names.namespace, &plan.names.name, &plan.runbooks);
    let spec = PrometheusRuleFields { groups: vec![group] };
    Some(PrometheusRule { metadata: metadata(plan, "alerts", &wanted.labels), spec })
}
