//! What all objects have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::Component;
use crate::controller::plan::Plan;

/// Metadata of an object that goes with the resource.
pub(super) fn meta(plan: &Plan, name: String, component: Component) -> ObjectMeta {
    owned(plan, name, plan.names.labels(component))
}

/// Metadata with other labels.
pub(super) fn owned(plan: &Plan, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.names.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Selects the pods of a part.
pub(super) fn selector(plan: &Plan, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(plan.names.selector(component)), ..LabelSelector::default() }
}

/// A part's identity: none of its pods has business with the API server.
pub(super) fn service_account(plan: &Plan, component: Component) -> ServiceAccount {
    ServiceAccount {
        metadata: meta(plan, plan.names.of(component), component),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Drains of nodes take one pod of a part at a time. (`minAvailable: 1` would block the drain of
/// a single pod for ever.)
pub(super) fn disruption_budget(plan: &Plan, component: Component) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(plan, plan.names.of(component), component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(plan, component)),
            // A pod that is not ready serves nobody: it must not hold up a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
