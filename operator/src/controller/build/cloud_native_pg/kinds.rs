//! The kinds of CloudNativePG, as far as the operator uses them
//! (<https://cloudnative-pg.io/documentation/current/cloudnative-pg.v1/>).
//!
//! Specs are kept as they are: CloudNativePG adds defaults of its own, which must not be lost, and object stores have the
//! form that the user gives them.

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The group of the kinds.
pub const GROUP: &str = "postgresql.cnpg.io";
/// The label of the pods of a Cluster, with its name.
pub const CLUSTER_LABEL: &str = "cnpg.io/cluster";
/// The annotation of a Cluster that hibernates (`on`) or not (`off`).
pub const HIBERNATION: &str = "cnpg.io/hibernation";

/// The spec of a Cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postgresql.cnpg.io",
    version = "v1",
    kind = "Cluster",
    plural = "clusters",
    namespaced,
    schema = "disabled",
    status = "ClusterStatus",
    derive = "PartialEq"
)]
#[serde(transparent)]
pub struct ClusterFields(pub Map<String, Value>);

/// The status of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// What CloudNativePG does, in words.
    pub phase: Option<String>,
    /// Why.
    pub phase_reason: Option<String>,
    /// Number of instances that exist.
    pub instances: Option<i32>,
    /// Number of instances that are ready.
    pub ready_instances: Option<i32>,
    /// Its conditions.
    pub conditions: Vec<ClusterCondition>,
}

/// A condition of a Cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// The spec of a ScheduledBackup.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "postgresql.cnpg.io",
    version = "v1",
    kind = "ScheduledBackup",
    plural = "scheduledbackups",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(transparent)]
pub struct ScheduledBackupFields(pub Map<String, Value>);
