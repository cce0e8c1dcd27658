//! Redis and PostgreSQL: managed by the operator, or external.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::backup::{BackupSpec, RestoreSpec};
use super::cloud_native_pg::CloudNativePgSpec;
use super::pods::PodsSpec;
use super::storage::StorageSpec;
use super::tls::{CaSecret, CertSecret};
use super::upgrade::UpgradeSpec;
use super::{cloud_native_pg_rules, parameters, rules};

/// Redis: managed, unless `external` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules_of_redis)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisSpec {
    /// A Redis that the operator runs: one pod, which syncs its append-only file before each reply.
    pub managed: ManagedRedis,
    /// An existing Redis (7.0 or newer), one with Sentinels, or a Redis Cluster. If it is given, `managed` is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
    /// How to log in to the Sentinels of an external Redis, if they have a password. Those of the servers are in its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelSpec>,
    /// Number of replicas of an external Redis that must have confirmed a request before it is answered, so that a failover
    /// does not lose it. It is exact only if each replica that may be promoted has to confirm.
    #[schemars(range(min = 0, max = 16))]
    pub replicas: i32,
    /// Prefix of all keys in Redis. If absent, it is made of the name and the namespace, and no other resource of the cluster
    /// has it. Resources of one name in two clusters need different ones if they share a server. It cannot be changed.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_.:-]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_prefix: Option<String>,
}

/// PostgreSQL: managed, unless `external` or `cloudNativePG` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = cloud_native_pg_rules::postgres)]
#[serde(rename_all = "camelCase", default)]
pub struct PostgresSpec {
    /// A PostgreSQL that the operator runs: one pod, with data checksums.
    pub managed: ManagedPostgres,
    /// An existing PostgreSQL (15 or newer). If it is given, `managed` is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalSpec>,
    /// Schema of the tables. If absent, it is made of the name and the namespace, and no other resource of the cluster has
    /// it. Resources of one name in two clusters need different ones if they share a database. It cannot be changed.
    #[schemars(length(min = 1, max = 48), regex(pattern = "^[a-z_][a-z0-9_]*$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// A PostgreSQL of several instances that CloudNativePG runs and fails over. If it is given, `managed` is ignored.
    #[serde(rename = "cloudNativePG", skip_serializing_if = "Option::is_none")]
    pub cloud_native_pg: Option<CloudNativePgSpec>,
}

/// A Redis that the operator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::managed_redis)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedRedis {
    /// The persistent volume of the server.
    pub storage: StorageSpec,
    /// Memory of the pod. Half of it is for events (`maxmemory`), the other half for rewriting the append-only file.
    /// `storage.size` must be at least twice as large.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub memory: Quantity,
    /// CPU request of the pod.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub cpu: Quantity,
    /// Where the pod runs, and what it carries.
    pub pods: PodsSpec,
    /// Parameters in the server's configuration file, such as `io-threads: "2"`. Those that the operator sets are refused by name.
    /// A change restarts the server.
    #[schemars(transform = parameters::values)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl Default for ManagedRedis {
    fn default() -> Self {
        Self {
            storage: StorageSpec::default(),
            memory: Quantity("1Gi".to_owned()),
            cpu: Quantity("100m".to_owned()),
            pods: PodsSpec::default(),
            parameters: BTreeMap::new(),
        }
    }
}

/// A PostgreSQL that the operator runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::managed_postgres)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedPostgres {
    /// The persistent volume of the server.
    pub storage: StorageSpec,
    /// Memory of the pod. The configuration of the server depends on it.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub memory: Quantity,
    /// CPU request of the pod.
    #[schemars(with = "String", length(min = 1, max = 32))]
    pub cpu: Quantity,
    /// Where the pod runs, and what it carries.
    pub pods: PodsSpec,
    /// Parameters in the server's configuration file, such as `work_mem: 16MB`. Those that the operator sets are refused by name.
    /// A change restarts the server.
    #[schemars(transform = parameters::values)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Major version of the server. It can be raised: what is stored is then copied to a new server with a new volume,
    /// while events wait in Redis.
    #[schemars(range(min = 15, max = 99))]
    pub version: i32,
    /// How the server is brought to a newer major version.
    pub upgrade: UpgradeSpec,
    /// If given, backups are made by a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSpec>,
    /// If given, this backup replaces what is stored, once. No aggregator runs meanwhile, and afterwards they store again
    /// what Redis still has of what the backup lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSpec>,
}

impl Default for ManagedPostgres {
    fn default() -> Self {
        Self {
            storage: StorageSpec::default(),
            memory: Quantity("1Gi".to_owned()),
            cpu: Quantity("100m".to_owned()),
            pods: PodsSpec::default(),
            parameters: BTreeMap::new(),
            version: 17,
            upgrade: UpgradeSpec::default(),
            backup: None,
            restore: None,
        }
    }
}

/// How to log in to Sentinels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SentinelSpec {
    /// Name of the user, if it is not the default one.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Name of the Secret with the password.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The key in the Secret whose value is the password.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "password")]
    pub secret_key: String,
}

fn password() -> String {
    "password".to_owned()
}

/// An existing server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSpec {
    /// The Secret with the URL of the server. When its content changes, the pods that use it are replaced.
    pub secret_ref: SecretKeyRef,
    /// The Secret with the CAs that are trusted for the server. The URL must ask for TLS. A changed Secret replaces no pods:
    /// new connections use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<CaSecret>,
    /// The Secret with the certificate of the pods, if the server demands one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret: Option<CertSecret>,
    /// Address ranges of the server, such as `10.0.0.0/8`, to which NetworkPolicies allow connections. If
    /// empty, they allow connections to its port at all addresses.
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Port to which NetworkPolicies allow connections, if it is not that of the URL: for a Service with a
    /// `targetPort`, the port of its pods. With Sentinels it is the port of the servers, 6379 if it is absent, and those
    /// of the URL are the Sentinels'.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy_port: Option<i32>,
}

/// A value in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret whose value is the URL: `redis://…`, `rediss://…` or `postgres://…`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "url")]
    pub key: String,
}

fn url() -> String {
    "url".to_owned()
}

/// Adds the rules of Redis: what only an external one has.
fn rules_of_redis(schema: &mut Schema) {
    let rules = json!([
        {
            "rule": "!has(self.sentinel) || has(self.external)",
            "message": "redis.sentinel needs redis.external: a managed Redis has no Sentinels",
            "fieldPath": ".sentinel",
        },
        {
            "rule": "!has(self.replicas) || self.replicas == 0 || has(self.external)",
            "message": "redis.replicas needs redis.external: a managed Redis has no replicas",
            "fieldPath": ".replicas",
        },
    ]);
    schema.insert("x-kubernetes-validations".to_owned(), rules);
}
