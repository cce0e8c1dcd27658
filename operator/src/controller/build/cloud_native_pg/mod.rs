//! A PostgreSQL that CloudNativePG runs: its Cluster, and the schedule of its backups.

mod cluster;
pub mod kinds;
mod pods;
mod scheduled_backup;

pub(super) use pods::instances;

use super::objects::Objects;
use crate::controller::cloud_native_pg::plan::ClusterPlan;
use crate::controller::plan::Plan;

/// Adds the Cluster, and the ScheduledBackup if there are backups.
pub(super) fn build(plan: &Plan, cluster: &ClusterPlan, objects: &mut Objects) {
    objects.clusters.push(cluster::build(plan, cluster));
    objects.scheduled_backups.extend(scheduled_backup::build(plan, cluster));
}
