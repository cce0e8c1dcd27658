//! The progress of a StatefulSet or Deployment, from its status.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

/// The progress of a StatefulSet or Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// Number of pods that are requested.
    pub wanted: i32,
    /// Number of pods that exist, of the old and of the new template.
    pub existing: i32,
    /// Number of pods that are ready.
    pub ready: i32,
    /// Whether all pods are of the current template. False until the controller of the StatefulSet or
    /// Deployment has observed the latest change.
    pub all_updated: bool,
}

impl Rollout {
    /// Whether exactly the requested pods exist, and all are up to date and ready.
    pub fn is_complete(&self) -> bool {
        self.all_updated && self.existing == self.wanted && self.ready == self.wanted
    }
}

/// Returns the progress of a StatefulSet.
pub fn of_set(set: &StatefulSet) -> Rollout {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &set.status else { return not_observed(wanted) };
    let observed = status.observed_generation >= set.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let one_revision = status.update_revision == status.current_revision || updated == status.replicas;
    Rollout {
        wanted,
        existing: status.replicas,
        ready: status.ready_replicas.unwrap_or(0),
        all_updated: observed && one_revision && (status.replicas == 0 || updated == status.replicas),
    }
}

/// Returns the progress of a Deployment.
pub fn of_deployment(deployment: &Deployment) -> Rollout {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return not_observed(wanted) };
    let observed = status.observed_generation >= deployment.metadata.generation;
    let existing = status.replicas.unwrap_or(0);
    Rollout {
        wanted,
        existing,
        ready: status.available_replicas.unwrap_or(0),
        all_updated: observed && status.updated_replicas.unwrap_or(0) == existing,
    }
}

/// The progress of an object that its controller has not observed yet.
fn not_observed(wanted: i32) -> Rollout {
    Rollout { wanted, existing: 0, ready: 0, all_updated: false }
}
