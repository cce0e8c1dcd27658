//! The status, which the operator writes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::{BackupStatus, RestoreStatus};
use super::deletion::DeletionPolicy;
use super::upgrade::PostgresStatus;

/// The state of the resource, as the operator has observed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventAggregatorStatus {
    /// The version of the spec (`metadata.generation`) for which this status was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions Ready and Progressing, one for each component, and Durable.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Number of aggregators that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Number of aggregators that should exist: the number in the spec, or the decision of autoscaling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Label selector of the aggregators' pods, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// URL for publishing and querying within the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The deletion policy that is in force for the volumes and passwords. A changed `spec.deletionPolicy` takes
    /// effect only when this field has the same value, which also happens while the resource is paused or invalid.
    #[schemars(with = "DeletionPolicy")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// The volumes of managed servers as they are. A volume that has not grown yet, or cannot grow, is smaller than
    /// the spec asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumesStatus>,
    /// The certificates of the programs and servers, if they speak TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The managed PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresStatus>,
    /// The backups of the managed PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// The restore that `spec.postgres.managed.restore` asked for last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreStatus>,
    /// The restore that `spec.restoreFrom` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<RestoreStatus>,
    /// Number of events that are accepted and not stored yet. Absent means unknown, not zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// Totals of all events, refreshed about every ten seconds. Absent means unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The component that has it, or `ca`.
    pub component: String,
    /// The Secret with the certificate.
    pub secret_name: String,
    /// When it ends, in UTC. The operator renews its own after two thirds of their life.
    pub not_after: Time,
}

/// The sizes of volumes.
// An absent one is written as null, so that a merge patch removes it from the stored status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumesStatus {
    /// Size of the volume of Redis. `spec.redis.managed.storage.size` cannot be reduced below it.
    #[schemars(with = "Option<String>", length(max = 32))]
    pub redis: Option<Quantity>,
    /// Size of the volume of PostgreSQL. `spec.postgres.managed.storage.size` cannot be reduced below it.
    #[schemars(with = "Option<String>", length(max = 32))]
    pub postgres: Option<Quantity>,
}

/// Totals of all events. `received = uniqueProcessed + duplicateDropped` always holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Events that arrived at an aggregator.
    pub received: i64,
    /// Events stored.
    pub unique_processed: i64,
    /// Events dropped as duplicates.
    pub duplicate_dropped: i64,
    /// Duplicates whose payload differed from the stored one.
    pub conflicts: i64,
    /// Dead letters: events that could not be stored and wait for an operator's decision.
    pub dead_lettered: i64,
}

/// The conditions that a resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// All components are ready.
    Ready,
    /// The operator or Kubernetes is changing something.
    Progressing,
    /// Redis can be used.
    RedisReady,
    /// PostgreSQL can be used.
    PostgresReady,
    /// All aggregators are up to date and ready.
    AggregatorReady,
    /// All publishers are up to date and ready.
    PublisherReady,
    /// Accepted events survive the loss of a node or a server. It follows from the spec.
    Durable,
    /// The newest backup is as recent as the schedule asks for. Only with backups.
    BackedUp,
    /// The backup that was to be restored has been. Only with a restore.
    Restored,
    /// PostgreSQL has the major version that is asked for. Only after an upgrade was asked for.
    Upgraded,
}

impl ConditionType {
    /// All conditions, in the order in which the status lists them.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Progressing,
        Self::RedisReady,
        Self::PostgresReady,
        Self::AggregatorReady,
        Self::PublisherReady,
        Self::Durable,
        Self::BackedUp,
        Self::Restored,
        Self::Upgraded,
    ];

    /// The condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::RedisReady => "RedisReady",
            Self::PostgresReady => "PostgresReady",
            Self::AggregatorReady => "AggregatorReady",
            Self::PublisherReady => "PublisherReady",
            Self::Durable => "Durable",
            Self::BackedUp => "BackedUp",
            Self::Restored => "Restored",
            Self::Upgraded => "Upgraded",
        }
    }
}

impl EventAggregatorStatus {
    /// Returns the condition of this type.
    pub fn condition(&self, of: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == of.as_str())
    }
}
