//! The servers behind: run by the operator, or somebody else's.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Redis: managed, unless `external` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisSpec {
    /// A Redis that the operator runs: one pod, an append-only file written before each answer.
    pub managed: ManagedRedis,
    /// A Redis (7.0 or newer) that is there already; `managed` is then ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
}

/// PostgreSQL: managed, unless `external` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresSpec {
    /// A PostgreSQL that the operator runs: one pod, with data checksums.
    pub managed: ManagedPostgres,
    /// A PostgreSQL (15 or newer) that is there already; `managed` is then ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
}

/// A Redis that the operator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::managed_redis)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedRedis {
    /// Its volume.
    pub storage: StorageSpec,
    /// Memory of the pod. Half of it is for events (`maxmemory`), half for rewriting the file.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub memory: Quantity,
    /// CPU that is set aside for it.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub cpu: Quantity,
}

impl Default for ManagedRedis {
    fn default() -> Self {
        Self { storage: StorageSpec::default(), memory: Quantity("1Gi".to_owned()), cpu: Quantity("100m".to_owned()) }
    }
}

/// A PostgreSQL that the operator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::managed_postgres)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedPostgres {
    /// Its volume.
    pub storage: StorageSpec,
    /// Memory of the pod, which the server is tuned for.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub memory: Quantity,
    /// CPU that is set aside for it.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub cpu: Quantity,
    /// Its major version. Cannot be changed: the data folder is of that version.
    #[schemars(range(min = 15, max = 99))]
    pub version: i32,
}

impl Default for ManagedPostgres {
    fn default() -> Self {
        Self {
            storage: StorageSpec::default(),
            memory: Quantity("1Gi".to_owned()),
            cpu: Quantity("100m".to_owned()),
            version: 17,
        }
    }
}

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::storage)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Its size. It may grow, where the storage class can; it cannot shrink.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub size: Quantity,
    /// Its storage class; without one the cluster's default. Cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self { size: Quantity("8Gi".to_owned()), storage_class_name: None }
    }
}

/// A server that is there already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSpec {
    /// The Secret with its URL. When its content changes the pods that use it are rolled.
    pub secret_ref: SecretKeyRef,
    /// Addresses that pods may reach it at, such as `10.0.0.0/8`; without any, its port is open to
    /// all addresses.
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

/// A value in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it that holds the URL: `redis://…` or `postgres://…`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "url")]
    pub key: String,
}

fn url() -> String {
    "url".to_owned()
}
