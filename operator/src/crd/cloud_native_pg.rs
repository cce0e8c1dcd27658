//! PostgreSQL as several instances that CloudNativePG runs.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::pods::PodsSpec;
use super::resources::Resources;
use super::storage::StorageSpec;
use super::{cloud_native_pg_rules as rules, parameters};

/// A PostgreSQL that CloudNativePG (1.25 or newer, with its definitions) runs: its Cluster `NAME-postgres`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::cluster)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudNativePgSpec {
    /// Number of instances: a primary, and standbys, of which one becomes the primary when it fails.
    #[schemars(range(min = 1, max = 16))]
    pub instances: i32,
    /// The persistent volume of each instance.
    pub storage: StorageSpec,
    /// If given, another volume of each instance for the write-ahead log. It can be added later, and not removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<StorageSpec>,
    /// Image of the instances, of PostgreSQL 15 or newer. If neither it nor `imageCatalogRef` is given, CloudNativePG
    /// chooses one when the Cluster is created.
    #[schemars(regex(pattern = r"^\S+$"), length(min = 1, max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image of a major version in a catalog of CloudNativePG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_catalog_ref: Option<ImageCatalogRef>,
    /// Resource requests and limits of each instance. The request of memory, or the limit if there is none, decides
    /// `shared_buffers`, `max_connections` and others. Without either, 1Gi is requested.
    pub resources: Resources,
    /// Where the instances run, and what they carry. Labels and annotations are those of all objects of the Cluster.
    pub pods: PodsSpec,
    /// Parameters of the server, such as `work_mem: 16MB`, which replace those that follow from the memory. Those that
    /// CloudNativePG or the operator sets are refused by name.
    #[schemars(transform = parameters::values)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Whether a commit waits for standbys. It has no effect with one instance.
    pub synchronous: SynchronousSpec,
    /// If given, CloudNativePG backs up the Cluster and archives its write-ahead log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<ClusterBackupSpec>,
    /// The pods of the operator of CloudNativePG, which must reach the instances.
    pub operator: ClusterOperator,
}

impl Default for CloudNativePgSpec {
    fn default() -> Self {
        Self {
            instances: 3,
            storage: StorageSpec::default(),
            wal_storage: None,
            image: None,
            image_catalog_ref: None,
            resources: Resources::default(),
            pods: PodsSpec::default(),
            parameters: BTreeMap::new(),
            synchronous: SynchronousSpec::default(),
            backup: None,
            operator: ClusterOperator::default(),
        }
    }
}

/// An image in a catalog of CloudNativePG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageCatalogRef {
    /// The kind of the catalog.
    #[serde(default)]
    pub kind: ImageCatalogKind,
    /// Name of the catalog.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Major version of PostgreSQL.
    #[schemars(range(min = 15, max = 99))]
    pub major: i32,
}

/// The kind of a catalog of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are those of CloudNativePG")]
pub enum ImageCatalogKind {
    #[default]
    ClusterImageCatalog,
    ImageCatalog,
}

/// Synchronous replication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SynchronousSpec {
    /// Whether a commit waits until standbys have it, so that a failover loses nothing.
    pub enabled: bool,
    /// Number of standbys, whichever they are, that must have a commit. It is less than `instances`.
    #[schemars(range(min = 1, max = 15))]
    pub number: i32,
    /// What happens while fewer standbys are ready: with `required`, commits wait for them; with `preferred`, they do not,
    /// and a failover can lose them.
    pub data_durability: DataDurability,
}

impl Default for SynchronousSpec {
    fn default() -> Self {
        Self { enabled: true, number: 1, data_durability: DataDurability::default() }
    }
}

/// Whether commits wait while there are too few standbys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of CloudNativePG")]
pub enum DataDurability {
    #[default]
    Required,
    Preferred,
}

/// Backups that CloudNativePG makes, by exactly one of three methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::backup)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBackupSpec {
    /// When a backup is made, in UTC: minute, hour, day of the month, month and day of the week, as in cron. (The operator
    /// adds the field of seconds that CloudNativePG wants.)
    #[schemars(length(min = 9, max = 100))]
    pub schedule: String,
    /// If true, no backup is made. The write-ahead log is archived nevertheless.
    #[serde(default)]
    pub suspend: bool,
    /// How far back the object store must allow a recovery, such as `30d`. Only with `barmanObjectStore`.
    #[schemars(regex(pattern = r"^[1-9][0-9]*[dwm]$"), length(max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<String>,
    /// An object store, in the form of `spec.backup.barmanObjectStore` of CloudNativePG's Cluster, which knows three clouds
    /// and changes with its versions. The API server checks it when the Cluster is applied.
    // A copy of its schema would refuse what a newer CloudNativePG allows.
    #[schemars(schema_with = "unchecked")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barman_object_store: Option<Map<String, Value>>,
    /// Snapshots of the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot: Option<VolumeSnapshotSpec>,
    /// A plugin of CloudNativePG that makes backups and archives the write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<BackupPlugin>,
}

/// Snapshots of volumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSnapshotSpec {
    /// The VolumeSnapshotClass; if absent, the cluster's default.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
}

/// A plugin of CloudNativePG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPlugin {
    /// Name of the plugin, such as `barman-cloud.cloudnative-pg.io`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its parameters, such as `barmanObjectName: shop-store`.
    #[schemars(transform = parameters::values)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The pods of the operator of CloudNativePG, in any namespace unless labels of one are given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterOperator {
    /// Labels of its namespace. If empty, all namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of its pods.
    pub pod_labels: BTreeMap<String, String>,
}

impl Default for ClusterOperator {
    fn default() -> Self {
        let labels = [("app.kubernetes.io/name".to_owned(), "cloudnative-pg".to_owned())];
        Self { namespace_labels: BTreeMap::new(), pod_labels: labels.into() }
    }
}

/// Returns the schema of an object whose fields are those of CloudNativePG.
fn unchecked(_: &mut SchemaGenerator) -> Schema {
    let mut schema = Schema::default();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    schema
}
