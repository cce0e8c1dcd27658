//! What a user asks for.
#![allow(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backends::{PostgresSpec, RedisSpec};
use super::network::NetworkPolicySpec;
use super::rules;
use super::status::EventAggregatorStatus;

/// An event aggregator: a publisher that takes events over HTTP, a Redis stream, aggregators that
/// store each event once, and PostgreSQL. Everything has a default.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "EventAggregator",
    plural = "eventaggregators",
    shortname = "eagg",
    category = "all",
    namespaced,
    status = "EventAggregatorStatus",
    derive = "PartialEq",
    doc = "An event aggregator: a publisher, a Redis stream, aggregators that store each event once, and PostgreSQL.",
    scale(
        spec_replicas_path = ".spec.aggregator.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = "1"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlog"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[schemars(transform = rules::spec)]
#[serde(rename_all = "camelCase", default)]
pub struct EventAggregatorSpec {
    /// The programs that store events: a StatefulSet.
    pub aggregator: AggregatorSpec,
    /// The programs that take events over HTTP: a Deployment.
    pub publisher: PublisherSpec,
    /// Which images run; without them the operator's own settings say.
    pub images: ImagesSpec,
    /// Redis streams that events are spread over.
    #[schemars(range(min = 1, max = 1024))]
    pub streams: i32,
    /// Fields whose equality makes an event a duplicate. Cannot be changed.
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub dedup_fields: Vec<DedupField>,
    /// Removes events that arrived longer ago than this (`30d`); without it they are kept for ever.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// For how long an Idempotency-Key is honoured.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$"))]
    pub idempotency_ttl: String,
    /// The server that holds events between publisher and aggregators.
    pub redis: RedisSpec,
    /// The server that stores events.
    pub postgres: PostgresSpec,
    /// What becomes of the volumes and passwords when this resource is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Makes the operator leave everything as it is.
    pub paused: bool,
    /// Who may reach whom.
    pub network_policy: NetworkPolicySpec,
}

impl Default for EventAggregatorSpec {
    fn default() -> Self {
        Self {
            aggregator: AggregatorSpec::default(),
            publisher: PublisherSpec::default(),
            images: ImagesSpec::default(),
            streams: 1,
            dedup_fields: vec![DedupField::Topic, DedupField::EventId],
            retention: None,
            idempotency_ttl: "24h".to_owned(),
            redis: RedisSpec::default(),
            postgres: PostgresSpec::default(),
            deletion_policy: DeletionPolicy::default(),
            paused: false,
            network_policy: NetworkPolicySpec::default(),
        }
    }
}

/// The aggregators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregatorSpec {
    /// How many; what `kubectl scale` sets. With `autoscaling` that decides instead.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Lets the operator choose the number by the backlog. It does nothing while a
    /// HorizontalPodAutoscaler scales this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Transactions that each replica has open at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub workers: i32,
    /// For how long a replica may hold an entry before another takes it over.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"))]
    pub claim_after: String,
    /// After which silence a replica that is gone is removed from the consumer group.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"))]
    pub consumer_ttl: String,
    /// Seconds to finish what is in hand when told to stop.
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout_seconds: i32,
    /// What a pod asks for and may use.
    pub resources: Resources,
}

impl Default for AggregatorSpec {
    fn default() -> Self {
        Self {
            replicas: 1,
            autoscaling: None,
            workers: 2,
            claim_after: "30s".to_owned(),
            consumer_ttl: "5m".to_owned(),
            shutdown_timeout_seconds: 20,
            resources: Resources::default(),
        }
    }
}

/// Choosing the number of aggregators by the backlog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::autoscaling)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Never fewer.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "one")]
    pub min_replicas: i32,
    /// Never more.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Events not stored yet, for each replica, that are fine.
    #[schemars(range(min = 1))]
    #[serde(default = "ten_thousand")]
    pub target_backlog: i64,
    /// Seconds for which fewer replicas must have sufficed before there are fewer.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default = "five_minutes")]
    pub stabilization_seconds: i32,
}

/// The publishers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PublisherSpec {
    /// How many.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// What a request may bring, and how much may wait.
    pub limits: LimitsSpec,
    /// Seconds to finish what is in hand when told to stop.
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout_seconds: i32,
    /// What a pod asks for and may use.
    pub resources: Resources,
}

impl Default for PublisherSpec {
    fn default() -> Self {
        Self {
            replicas: 2,
            limits: LimitsSpec::default(),
            shutdown_timeout_seconds: 20,
            resources: Resources::default(),
        }
    }
}

/// Limits of publishing. What is left out is the program's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Bytes of a request's body.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<i64>,
    /// Events in a request.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_events: Option<i32>,
    /// Bytes of a payload as JSON text.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_bytes: Option<i64>,
    /// Levels of arrays and objects in a payload.
    #[schemars(range(min = 0, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_depth: Option<i32>,
    /// Events accepted and not stored yet, above which requests are answered 429.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backlog: Option<i64>,
}

/// Images of the pods. What is left out is as the operator was installed with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagesSpec {
    /// Image of the aggregators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregator: Option<String>,
    /// Image of the publishers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Image of a managed Redis, 7.0 or newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<String>,
    /// Image of a managed PostgreSQL, of the version that `postgres.managed.version` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
    /// When images are pulled.
    pub pull_policy: PullPolicy,
    /// Secrets to pull them with, in this namespace.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
}

/// What a pod asks for and may use: `cpu`, `memory` and others, as in a pod. Where this says
/// nothing of `cpu` or `memory`, a small request is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// What is set aside for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may not exceed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// A field that takes part in telling events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are an event's fields")]
pub enum DedupField {
    Topic,
    EventId,
    Source,
}

impl DedupField {
    /// As the programs' setting spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Source => "source",
        }
    }
}

/// What becomes of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Volumes and passwords stay; a resource of the same name finds them again.
    #[default]
    Retain,
    /// Volumes and passwords are deleted.
    Delete,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "as in a pod")]
pub enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

impl PullPolicy {
    /// As a pod spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

fn one() -> i32 {
    1
}
fn five_minutes() -> i32 {
    300
}
fn ten_thousand() -> i64 {
    10_000
}
