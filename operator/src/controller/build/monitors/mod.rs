//! What Prometheus learns of a resource: where its programs are, and when to raise an alert.

mod alerts;
pub mod pod_monitor;
pub mod prometheus_rule;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta;
use super::objects::Objects;
use crate::controller::plan::Plan;

/// Adds the objects that the plan has.
pub(super) fn build(plan: &Plan, objects: &mut Objects) {
    objects.pod_monitors.extend(pod_monitor::build(plan));
    objects.prometheus_rules.extend(prometheus_rule::build(plan));
}

/// Returns the metadata, with labels of the user's by which a Prometheus selects the object.
fn metadata(plan: &Plan, suffix: &str, labels: &BTreeMap<String, String>) -> ObjectMeta {
    let all = labels.iter().map(|(key, value)| (key.clone(), value.clone())).chain(plan.names.common_labels());
    meta::owned(plan, format!("{}-{suffix}", plan.names.name), all.collect())
}
