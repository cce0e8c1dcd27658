//! Hibernation: all pods of a resource stop, in the direction in which events flow, and start again later. No component
//! stops before the components that send to it, so none of them sees a server disappear.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::build::Objects;
use super::build::cloud_native_pg::kinds::HIBERNATION;
use super::build::names::{Component, component_of};
use super::cloud_native_pg;
use super::fetch::Live;
use super::plan::Plan;

/// Annotation of a Deployment whose number of pods is 0 because of hibernation.
const HIBERNATED: &str = "sluice.dev/hibernated";

/// Sets the number of pods of each component to 0, as soon as no pod runs that sends to it. Until then the number stays.
pub fn stop(plan: &Plan, live: &Live, desired: &mut Objects) {
    if !plan.hibernated {
        return;
    }
    for deployment in &mut desired.deployments {
        deployment.annotations_mut().insert(HIBERNATED.to_owned(), "true".to_owned());
        deployment.spec.get_or_insert_default().replicas = Some(0);
    }
    let running = running(live);
    let stopped = |senders: &[Component]| senders.iter().all(|sender| !running.contains_key(sender.as_str()));
    for cluster in desired.clusters.iter_mut().filter(|_| stopped(&[Component::Publisher, Component::Aggregator])) {
        cluster.annotations_mut().insert(HIBERNATION.to_owned(), "on".to_owned());
    }
    for set in &mut desired.stateful_sets {
        let senders: &[Component] = if set.name_any() == plan.names.of(Component::Aggregator) {
            &[Component::Publisher]
        } else {
            &[Component::Publisher, Component::Aggregator]
        };
        if stopped(senders) {
            set.spec.get_or_insert_default().replicas = Some(0);
        }
    }
}

/// Returns the number of pods that exist, by component.
pub fn running(live: &Live) -> BTreeMap<&str, usize> {
    let mut running = BTreeMap::new();
    for component in live.pods.iter().filter_map(|pod| component_of(pod.labels())) {
        *running.entry(component).or_default() += 1;
    }
    // The pods of a Cluster have other labels.
    let instances = cloud_native_pg::count(&live.objects.clusters);
    if instances > 0 {
        running.insert(Component::Postgres.as_str(), instances);
    }
    running
}

/// Whether a Deployment has no pods because of hibernation. No autoscaler starts from 0 again.
pub fn stopped(deployment: &Deployment) -> bool {
    deployment.annotations().contains_key(HIBERNATED)
}
