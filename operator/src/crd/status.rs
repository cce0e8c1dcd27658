//! What the operator answers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventAggregatorStatus {
    /// Which version of the spec this speaks of (`metadata.generation`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, and one for each part.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Aggregators that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Aggregators that should exist: as the spec says, or as autoscaling decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Labels of the aggregators' pods, for whoever scales this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Where to publish and to query, within the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Events accepted and not stored yet. Absent means unknown, which is not zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// What was counted, as of about ten seconds ago. Absent means unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// Counts of all events ever. `received = uniqueProcessed + duplicateDropped`, always.
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
    /// Events that could not be stored and wait for somebody to look.
    pub dead_lettered: i64,
}

/// The conditions that a resource has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// Everything asked for is there and works: the one to wait for.
    Ready,
    /// Something is being changed.
    Progressing,
    /// Redis answers.
    RedisReady,
    /// PostgreSQL answers.
    PostgresReady,
    /// All aggregators are up to date and ready.
    AggregatorReady,
    /// All publishers are up to date and ready.
    PublisherReady,
}

impl ConditionType {
    /// The condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::RedisReady => "RedisReady",
            Self::PostgresReady => "PostgresReady",
            Self::AggregatorReady => "AggregatorReady",
            Self::PublisherReady => "PublisherReady",
        }
    }
}

impl EventAggregatorStatus {
    /// A condition by its type.
    pub fn condition(&self, of: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == of.as_str())
    }
}
