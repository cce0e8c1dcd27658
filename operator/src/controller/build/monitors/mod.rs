//! What Prometheus learns of a resource: where its programs are, and when to raise an alert.

pub mod pod_monitor;
pub mod prometheus_rule;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta;
use crate::controller::plan::Plan;

/// Returns the metadata, with labels of the user's by which a Prometheus selects the object.
fn metadata(plan: &Plan, suffix: &str, labels: &BTreeMap<String, String>) -> ObjectMeta {
    let all = labels.iter().map(|(key, value)| (key.clone(), value.clone())).chain(plan.names.common_labels());
    meta::owned(plan, format!("{}-{suffix}", plan.names.name), all.collect())
}
