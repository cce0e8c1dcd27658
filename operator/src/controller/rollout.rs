//! How far a set of pods has come.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

/// How far a set of pods has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// How many there should be.
    pub wanted: i32,
    /// How many there are, old and new.
    pub existing: i32,
    /// How many are ready.
    pub ready: i32,
    /// No pod is of an older template, as far as the set's controller has seen our last change.
    pub all_updated: bool,
}

impl Rollout {
    /// Exactly what was asked for is there, and all of it is ready.
    pub fn is_complete(&self) -> bool {
        self.all_updated && self.existing == self.wanted && self.ready == self.wanted
    }
}

/// How far a StatefulSet has come.
pub fn of_set(set: &StatefulSet) -> Rollout {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &set.status else { return unseen(wanted) };
    let seen = status.observed_generation >= set.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let one_revision = status.update_revision == status.current_revision || updated == status.replicas;
    Rollout {
        wanted,
        existing: status.replicas,
        ready: status.ready_replicas.unwrap_or(0),
        all_updated: seen && one_revision && (status.replicas == 0 || updated == status.replicas),
    }
}

/// How far a Deployment has come.
pub fn of_deployment(deployment: &Deployment) -> Rollout {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return unseen(wanted) };
    let seen = status.observed_generation >= deployment.metadata.generation;
    let existing = status.replicas.unwrap_or(0);
    Rollout {
        wanted,
        existing,
        ready: status.available_replicas.unwrap_or(0),
        all_updated: seen && status.updated_replicas.unwrap_or(0) == existing,
    }
}

fn unseen(wanted: i32) -> Rollout {
    Rollout { wanted, existing: 0, ready: 0, all_updated: false }
}
