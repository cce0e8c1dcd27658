//! What the user of a resource says about the pods of a component, added to what the operator sets.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::crd::PodsSpec;

/// Adds what `pods` says to a pod template whose only container is that of the component. `selector` selects the pods of
/// the component.
pub(super) fn to_template(template: &mut PodTemplateSpec, pods: &PodsSpec, selector: &LabelSelector) {
    let meta = template.metadata.get_or_insert_default();
    extend(&mut meta.labels, &pods.labels);
    extend(&mut meta.annotations, &pods.annotations);
    let spec = template.spec.get_or_insert_default();
    extend(&mut spec.node_selector, &pods.node_selector);
    spec.priority_class_name.clone_from(&pods.priority_class_name);
    spec.affinity.clone_from(&pods.affinity);
    if !pods.tolerations.is_empty() {
        spec.tolerations = Some(pods.tolerations.clone());
    }
    if !pods.topology_spread_constraints.is_empty() {
        let mut constraints = pods.topology_spread_constraints.clone();
        // A constraint without a selector selects no pods, and would have no effect.
        for constraint in &mut constraints {
            constraint.label_selector.get_or_insert_with(|| selector.clone());
        }
        spec.topology_spread_constraints = Some(constraints);
    }
    spec.security_context.merge_from(pods.pod_security_context.clone());
    for container in &mut spec.containers {
        container.security_context.merge_from(pods.security_context.clone());
        // They come last, so that their values can refer to those of the operator.
        container.env.get_or_insert_default().extend(pods.env.iter().cloned());
    }
}

/// Adds what `pods` says to the ServiceAccount of a component.
pub(super) fn to_service_account(account: &mut ServiceAccount, pods: &PodsSpec) {
    extend(&mut account.metadata.annotations, &pods.service_account_annotations);
}

fn extend(map: &mut Option<BTreeMap<String, String>>, with: &BTreeMap<String, String>) {
    if !with.is_empty() {
        map.get_or_insert_default().extend(with.clone());
    }
}
