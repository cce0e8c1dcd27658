//! What the status of a Cluster means, in the words of the operator.

use crate::controller::build::cloud_native_pg::kinds::{Cluster, ClusterStatus};
use crate::controller::build::names::Component;
use crate::controller::plan::Plan;
use crate::controller::reason::Reason;

/// The phase of a Cluster that has nothing to do.
const HEALTHY: &str = "Cluster in healthy state";
/// The phases in which CloudNativePG is at work, so that waiting is enough. It may have others; all those need attention
/// for which it waits for somebody.
const UNDERWAY: &[&str] = &[
    "Applying configuration",
    "Creating a new replica",
    "Failing over",
    "Online upgrade in progress",
    "Primary instance is being restarted in-place",
    "Primary instance is being restarted without a switchover",
    "Setting up primary",
    "Switchover in progress",
    "Upgrading Postgres major version",
    "Upgrading cluster",
    "Waiting for the instances to become active",
];
/// The condition of a Cluster that hibernates.
const HIBERNATION: &str = "cnpg.io/hibernation";

/// Returns the status, the reason and the message of the condition PostgresReady.
pub fn standing(plan: &Plan, instances: i32, cluster: Option<&Cluster>) -> (&'static str, Reason, String) {
    let name = plan.names.of(Component::Postgres);
    let Some(cluster) = cluster else {
        return ("False", Reason::Missing, format!("Cluster {name} has not been created yet"));
    };
    let Some(status) = cluster.status.as_ref().filter(|status| status.phase.is_some()) else {
        let message =
            format!("Cluster {name} has no status yet: if this stays, the operator of CloudNativePG does not run");
        return ("False", Reason::Starting, message);
    };
    if plan.hibernated {
        return match hibernates(status) {
            true => ("True", Reason::ScaledToZero, format!("Cluster {name} hibernates")),
            false => ("False", Reason::Hibernating, format!("Cluster {name} does not hibernate yet")),
        };
    }
    let (phase, ready) = (status.phase.as_deref().unwrap_or_default(), status.ready_instances.unwrap_or(0));
    let why = status.phase_reason.as_deref().filter(|why| !why.is_empty() && *why != phase);
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let count = format!("{ready} of {instances} instances of Cluster {name} are ready");
    match phase {
        HEALTHY if ready >= instances => ("True", Reason::Ready, count),
        // The phase lags behind the instances.
        HEALTHY => ("False", Reason::Starting, count),
        phase if !UNDERWAY.contains(&phase) => ("False", Reason::ClusterUnhealthy, format!("{count}; {phase}{why}")),
        phase if ready < instances => ("False", Reason::Starting, format!("{count}; {phase}{why}")),
        phase => ("False", Reason::RollingOut, format!("{count}; {phase}{why}")),
    }
}

/// Returns the number of instances of the Cluster of a resource, unless it hibernates. One without a status has none:
/// CloudNativePG has not begun with it.
pub fn count(clusters: &[Cluster]) -> usize {
    match clusters.first().and_then(|cluster| cluster.status.as_ref()) {
        Some(status) if status.phase.is_some() && !hibernates(status) => {
            status.instances.and_then(|count| usize::try_from(count).ok()).unwrap_or(1).max(1)
        }
        _ => 0,
    }
}

fn hibernates(status: &ClusterStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == HIBERNATION && condition.status == "True")
}
