//! All objects of a resource, as they should be. Pure: from a validated plan and nothing else, so
//! that what is built can be compared with what is there.

mod aggregator;
mod config;
mod meta;
pub mod names;
mod pod;
mod policies;
mod postgres;
mod publisher;
mod redis;
mod set;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;

use super::plan::{Backend, Checksums, Plan};

/// Objects by kind, in the order in which they are made: what a pod needs comes before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the kinds say it")]
pub struct Objects {
    pub service_accounts: Vec<ServiceAccount>,
    pub config_maps: Vec<ConfigMap>,
    pub network_policies: Vec<NetworkPolicy>,
    pub services: Vec<Service>,
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    pub stateful_sets: Vec<StatefulSet>,
    pub deployments: Vec<Deployment>,
}

impl Objects {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.service_accounts.len()
            + self.config_maps.len()
            + self.network_policies.len()
            + self.services.len()
            + self.disruption_budgets.len()
            + self.stateful_sets.len()
            + self.deployments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Builds all objects of a resource. `checksums` are of the Secrets that its pods use.
pub fn build(plan: &Plan, checksums: &Checksums) -> Objects {
    let mut objects = Objects::default();
    if let Backend::Managed(redis) = &plan.redis {
        redis::build(plan, redis, checksums, &mut objects);
    }
    if let Backend::Managed(postgres) = &plan.postgres {
        postgres::build(plan, postgres, checksums, &mut objects);
    }
    // Aggregators come before publishers: they must understand what publishers write.
    aggregator::build(plan, checksums, &mut objects);
    publisher::build(plan, checksums, &mut objects);
    policies::build(plan, &mut objects);
    objects
}
