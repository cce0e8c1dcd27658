//! The PrometheusRule with the alerts of a resource. Its type has the fields that the operator sets
//! (<https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule>).

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::{alerts, metadata};
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

/// Alerts that are evaluated together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The alerts.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    #[serde(default)]
    pub alert: String,
    /// The expression that has a value when something is wrong.
    pub expr: String,
    /// For how long it must have one.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
    /// Labels of the alert.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What a person reads.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Returns the PrometheusRule, if the plan has one. A resource that hibernates has no pods that could be missed.
pub(in super::super) fn build(plan: &Plan) -> Option<PrometheusRule> {
    let wanted = plan.prometheus_rule.as_ref().filter(|_| !plan.hibernated)?;
    let rules = alerts::ALL.iter().map(|alert| {
        let labels = [
            ("severity", alert.severity.to_owned()),
            ("namespace", plan.names.namespace.clone()),
            ("eventaggregator", plan.names.name.clone()),
        ];
        let annotations = [("summary", alert.summary), ("description", alert.description), ("runbook", alert.runbook)];
        Rule {
            alert: alert.name.to_owned(),
            expr: alert.expression(&plan.names),
            for_: alert.for_.map(str::to_owned),
            labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
            annotations: annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    });
    let group = Group { name: format!("sluice.{}.{}", plan.names.namespace, plan.names.name), rules: rules.collect() };
    let spec = PrometheusRuleFields { groups: vec![group] };
    Some(PrometheusRule { metadata: metadata(plan, "alerts", &wanted.labels), spec })
}
