//! Whether PostgreSQL accepts as many connections as all aggregators need.

use super::error::{Error, Result};
use super::fetch::Live;
use super::plan::{Backend, MAX_CONNECTIONS, PostgresBackend};
use crate::crd::AggregatorSpec;

/// Connections that an aggregator opens to PostgreSQL besides one for each worker: for claimed entries, replays, lists,
/// other queries, probes, recovery and maintenance.
const CONNECTIONS_BESIDE_WORKERS: i64 = 8;
/// Connections that are left for administrators and backups. PostgreSQL reserves three of them.
const OTHER_CONNECTIONS: i64 = 5;
/// The parameter with the number of connections of a Cluster of CloudNativePG. Without it, the number follows from the
/// memory.
const CLUSTER_CONNECTIONS: &str = "spec.postgres.cloudNativePG.parameters.max_connections";

/// Refuses more aggregators than the PostgreSQL that the operator sets up has connections for. Some of them would never
/// become ready. `max_connections` does not follow the number of aggregators, because scaling would then restart the server.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn check(aggregator: &AggregatorSpec, replicas: i32, live: &Live, postgres: &PostgresBackend) -> Result<()> {
    let (allowed, by) = match postgres {
        Backend::Managed(postgres) => (postgres.max_connections(), "spec.postgres.managed.memory"),
        Backend::Cluster(cluster) => (cluster.max_connections, CLUSTER_CONNECTIONS),
        Backend::External(_) => return Ok(()),
    };
    let scaling = aggregator.autoscaling.as_ref().filter(|_| live.autoscalers.is_empty());
    let (count, field) = match scaling {
        Some(scaling) => (scaling.max_replicas.max(replicas), "spec.aggregator.autoscaling.maxReplicas"),
        None => (replicas, "spec.aggregator.replicas"),
    };
    let each = i64::from(aggregator.workers) + CONNECTIONS_BESIDE_WORKERS;
    let needed = i64::from(count) * each + OTHER_CONNECTIONS;
    if needed <= allowed {
        return Ok(());
    }
    let remedy = if by == CLUSTER_CONNECTIONS {
        format!("set it to {needed} or more, or lower {field} or spec.aggregator.workers")
    } else if needed <= MAX_CONNECTIONS {
        format!("raise it to {}Mi, or lower {field} or spec.aggregator.workers", needed * 5)
    } else {
        format!("lower {field} or spec.aggregator.workers, because it has at most {MAX_CONNECTIONS}")
    };
    let message = format!(
        "gives PostgreSQL {allowed} connections, and {count} aggregators with {} workers each need up to {needed}: {remedy}",
        aggregator.workers
    );
    Err(Error::invalid(by, message))
}
