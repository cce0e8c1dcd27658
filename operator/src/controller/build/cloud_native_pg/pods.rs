//! What the user of a resource says about the instances, as CloudNativePG takes it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};

use super::kinds::CLUSTER_LABEL;
use crate::controller::build::names::Component;
use crate::controller::build::pod::some_vec;
use crate::controller::plan::Plan;
use crate::crd::PodsSpec;

/// Returns the fields of the Cluster for `pods`; a field that is null is not set.
pub(super) fn fields(plan: &Plan, pods: &PodsSpec) -> [(&'static str, Value); 8] {
    let account = &pods.service_account_annotations;
    let account = (!account.is_empty()).then(|| json!({"metadata": {"annotations": account}}));
    // CloudNativePG gives them to its Secrets too, which an operator that reads by labels could not see otherwise.
    let labels: BTreeMap<_, _> = pods.labels.iter().chain(plan.secret_labels.iter().flatten()).collect();
    [
        ("inheritedMetadata", filled([("labels", json!(labels)), ("annotations", json!(pods.annotations))])),
        ("affinity", affinity(pods)),
        ("topologySpreadConstraints", spread(plan, pods)),
        ("priorityClassName", json!(pods.priority_class_name)),
        ("serviceAccountTemplate", json!(account)),
        ("env", json!(some_vec(pods.env.clone()))),
        ("podSecurityContext", json!(pods.pod_security_context)),
        ("securityContext", json!(pods.security_context)),
    ]
}

/// Returns what the user says about nodes. CloudNativePG itself prefers another node for each instance.
fn affinity(pods: &PodsSpec) -> Value {
    let given = pods.affinity.as_ref();
    filled([
        ("nodeSelector", json!(pods.node_selector)),
        ("tolerations", json!(pods.tolerations)),
        ("nodeAffinity", json!(given.and_then(|affinity| affinity.node_affinity.as_ref()))),
        ("additionalPodAffinity", json!(given.and_then(|affinity| affinity.pod_affinity.as_ref()))),
        ("additionalPodAntiAffinity", json!(given.and_then(|affinity| affinity.pod_anti_affinity.as_ref()))),
    ])
}

fn spread(plan: &Plan, pods: &PodsSpec) -> Value {
    let mut constraints = pods.topology_spread_constraints.clone();
    // A constraint without a selector selects no pods, and would have no effect.
    for constraint in &mut constraints {
        constraint.label_selector.get_or_insert_with(|| instances(plan));
    }
    json!(some_vec(constraints))
}

/// Returns the selector of the instances.
pub(in super::super) fn instances(plan: &Plan) -> LabelSelector {
    let labels = [(CLUSTER_LABEL.to_owned(), plan.names.of(Component::Postgres))];
    LabelSelector { match_labels: Some(labels.into()), ..LabelSelector::default() }
}

/// Returns an object of the fields that have a content, or null if there are none.
fn filled<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let has_content = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| has_content(value));
    let fields: Map<_, _> = fields.map(|(name, value)| (name.to_owned(), value)).collect();
    if fields.is_empty() { Value::Null } else { Value::Object(fields) }
}
