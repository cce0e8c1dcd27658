//! Metadata and small objects that all components have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::additions;
use super::names::Component;
use crate::controller::plan::Plan;

/// Returns the metadata of an object that is deleted with the resource.
pub(super) fn meta(plan: &Plan, name: String, component: Component) -> ObjectMeta {
    owned(plan, name, plan.names.labels(component))
}

/// Returns the same metadata with other labels.
pub(super) fn owned(plan: &Plan, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.names.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Returns the selector of a component's pods.
pub(super) fn selector(plan: &Plan, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(plan.names.selector(component)), ..LabelSelector::default() }
}

/// Returns the ServiceAccount of a component. It has no token: none of its pods uses the API server.
pub(super) fn service_account(plan: &Plan, component: Component) -> ServiceAccount {
    let mut account = ServiceAccount {
        metadata: meta(plan, plan.names.of(component), component),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    if let Some(pods) = plan.pods(component) {
        additions::to_service_account(&mut account, pods);
    }
    account
}

/// Returns the PodDisruptionBudget: a node drain evicts one pod of a component at a time. With
/// `minAvailable: 1` a component of a single pod would block a drain for ever.
pub(super) fn disruption_budget(plan: &Plan, component: Component) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(plan, plan.names.of(component), component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(plan, component)),
            // A pod that is not ready serves no requests, so it must not block a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
