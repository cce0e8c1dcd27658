//! A validated Cluster of CloudNativePG.

use std::collections::BTreeSet;

use crate::controller::build::names::Names;
use crate::crd::{CloudNativePgSpec, EventAggregatorSpec};

/// A Cluster of CloudNativePG.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// What the user of the resource says about it.
    pub spec: CloudNativePgSpec,
    /// Memory of each instance, in bytes, for which the server is tuned.
    pub memory: i64,
    /// Bytes of the volume with the write-ahead log.
    pub wal_bytes: i64,
    /// The number of connections that the server accepts.
    pub max_connections: i64,
}

impl ClusterPlan {
    /// Whether a commit waits for standbys.
    pub fn is_synchronous(&self) -> bool {
        self.spec.instances > 1 && self.spec.synchronous.enabled
    }
}

/// Returns the names of the Secrets that CloudNativePG creates and the operator reads, if the resource uses it.
pub fn secret_names(names: &Names, spec: &EventAggregatorSpec) -> BTreeSet<String> {
    match spec.postgres.cloud_native_pg {
        Some(_) => [names.cluster_user(), names.cluster_authority()].into(),
        None => BTreeSet::new(),
    }
}
