//! The spec, which a user writes.
#![allow(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::AuthSpec;
use super::backends::{PostgresSpec, RedisSpec};
use super::backup::RestoreFromSpec;
use super::deletion::DeletionPolicy;
use super::durability::DurabilitySpec;
use super::ingress::{HttpRouteSpec, IngressSpec};
use super::meters::MeterSpec;
use super::monitoring::MonitoringSpec;
use super::network::NetworkPolicySpec;
use super::pods::PodsSpec;
use super::publisher_autoscaling::PublisherAutoscaling;
use super::resources::Resources;
use super::rules;
use super::schemas::SchemaSpec;
use super::service::ServiceSpec;
use super::status::EventAggregatorStatus;
use super::tls::TlsSpec;
use super::traces::TracingSpec;

/// An event aggregator: publishers that accept events over HTTP, Redis streams, aggregators that store each
/// event once, and PostgreSQL. All fields have defaults.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "EventAggregator",
    plural = "eventaggregators",
    shortname = "eagg",
    namespaced,
    status = "EventAggregatorStatus",
    derive = "PartialEq",
    doc = "An event aggregator: publishers, Redis streams, aggregators that store each event once, and PostgreSQL.",
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
    /// The aggregators, which store events: a StatefulSet.
    pub aggregator: AggregatorSpec,
    /// The publishers, which accept events over HTTP: a Deployment.
    pub publisher: PublisherSpec,
    /// Images of the pods. The operator's settings give the defaults.
    pub images: ImagesSpec,
    /// Number of Redis streams over which events are distributed.
    #[schemars(range(min = 1, max = 1024))]
    pub streams: i32,
    /// Events that are equal in all of these fields are duplicates. The list cannot be changed.
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub dedup_fields: Vec<DedupField>,
    /// Age, counted from arrival, at which events are removed, such as `30d`: at least `1m`. If absent, events are
    /// never removed.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$"), length(max = 8))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// For how long an Idempotency-Key is remembered: a request repeated within this time is not counted again. At
    /// least `10s`, for which a publisher itself repeats an append.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$"), length(max = 8))]
    pub idempotency_ttl: String,
    /// Percentage of Redis' memory for the records of Idempotency-Keys, of which the oldest are removed beyond it. If
    /// absent, the publisher's default.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_memory_percent: Option<i32>,
    /// Meters: exact counts, sums and other figures of events over time. A meter that is not in the list any more stays, with its
    /// figures, until it is removed by the API.
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<MeterSpec>,
    /// JSON Schemas of topics: payloads that do not match are refused, or counted. A schema that is not in the list any more stays
    /// in force until it is removed by the API.
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topic"])
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<SchemaSpec>,
    /// What pods require of the settings of Redis and PostgreSQL.
    pub durability: DurabilitySpec,
    /// Redis, which holds events between publishers and aggregators.
    pub redis: RedisSpec,
    /// PostgreSQL, which stores events.
    pub postgres: PostgresSpec,
    /// If given, a new resource begins with a backup of another one, or of a former one of its own name. It can be given only
    /// when the resource is created, and nothing is restored into a volume that has events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFromSpec>,
    /// Whether volumes and passwords are retained or deleted when this resource is deleted.
    pub deletion_policy: DeletionPolicy,
    /// If true, the operator changes nothing except what `deletionPolicy` asks for.
    pub paused: bool,
    /// If true, no pod runs: publishers stop first, then aggregators, then managed servers. Volumes and Secrets stay, and
    /// events that are accepted and not stored yet wait in Redis.
    pub hibernated: bool,
    /// NetworkPolicies for the pods.
    pub network_policy: NetworkPolicySpec,
    /// Objects of the Prometheus Operator.
    pub monitoring: MonitoringSpec,
    /// Traces of requests, which publishers and aggregators send to a collector by OTLP. If absent, they send none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Box<TracingSpec>>,
    /// Who may use the publishers and aggregators. If absent, whoever reaches them may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// TLS between the pods and with clients.
    pub tls: TlsSpec,
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
            idempotency_memory_percent: None,
            meters: Vec::new(),
            schemas: Vec::new(),
            durability: DurabilitySpec::default(),
            redis: RedisSpec::default(),
            postgres: PostgresSpec::default(),
            restore_from: None,
            deletion_policy: DeletionPolicy::default(),
            paused: false,
            hibernated: false,
            network_policy: NetworkPolicySpec::default(),
            monitoring: MonitoringSpec::default(),
            tracing: None,
            auth: None,
            tls: TlsSpec::default(),
        }
    }
}

/// The aggregators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::aggregator)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregatorSpec {
    /// Number of pods; `kubectl scale` sets it. It is ignored when `autoscaling` is given.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// If given, the operator chooses the number of pods by the backlog. It has no effect while a
    /// HorizontalPodAutoscaler scales this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Number of concurrent transactions of each replica.
    #[schemars(range(min = 1, max = 64))]
    pub workers: i32,
    /// For how long an entry may be pending at one replica before another replica claims it: `1s` to `999h`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"), length(max = 8))]
    pub claim_after: String,
    /// After how long without activity a replica is removed from the consumer group.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"))]
    pub consumer_ttl: String,
    /// Seconds for finishing the work in flight after SIGTERM.
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout_seconds: i32,
    /// Resource requests and limits of each pod.
    pub resources: Resources,
    /// Where the pods run, and what they carry.
    pub pods: PodsSpec,
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
            pods: PodsSpec::default(),
        }
    }
}

/// Autoscaling of the aggregators by the backlog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::autoscaling)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Minimum number of aggregators.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "one")]
    pub min_replicas: i32,
    /// Maximum number of aggregators.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Number of events that are not stored yet, per replica, above which replicas are added.
    #[schemars(range(min = 1))]
    #[serde(default = "ten_thousand")]
    pub target_backlog: i64,
    /// Seconds for which fewer replicas must have been sufficient before replicas are removed.
    #[schemars(range(min = 0, max = 86400))]
    #[serde(default = "five_minutes")]
    pub stabilization_seconds: i32,
}

/// The publishers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PublisherSpec {
    /// Number of pods. It is ignored when `autoscaling` is given. While a HorizontalPodAutoscaler scales the Deployment
    /// `NAME-publisher`, its number counts.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// If given, the number of pods follows their use of CPU. It has no effect while a HorizontalPodAutoscaler of
    /// somebody else scales the Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<PublisherAutoscaling>,
    /// Limits of publish requests and of the backlog.
    pub limits: LimitsSpec,
    /// The Service through which clients reach the publishers.
    pub service: ServiceSpec,
    /// If given, an Ingress through which clients outside the cluster reach the publishers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// If given, an HTTPRoute of the Gateway API through which clients outside the cluster reach the publishers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_route: Option<HttpRouteSpec>,
    /// Seconds for finishing the work in flight after SIGTERM.
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout_seconds: i32,
    /// Resource requests and limits of each pod.
    pub resources: Resources,
    /// Where the pods run, and what they carry.
    pub pods: PodsSpec,
}

impl Default for PublisherSpec {
    fn default() -> Self {
        Self {
            replicas: 2,
            autoscaling: None,
            limits: LimitsSpec::default(),
            service: ServiceSpec::default(),
            ingress: None,
            http_route: None,
            shutdown_timeout_seconds: 20,
            resources: Resources::default(),
            pods: PodsSpec::default(),
        }
    }
}

/// Limits of publishing. A limit that is absent has the default of the publisher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Maximum size of a request body, in bytes.
    #[schemars(range(min = 1, max = 536_870_912))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<i64>,
    /// Maximum number of events in a request.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_events: Option<i32>,
    /// Maximum size of a payload as JSON text, in bytes.
    #[schemars(range(min = 1, max = 536_870_912))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_bytes: Option<i64>,
    /// Maximum number of nested arrays and objects in a payload.
    #[schemars(range(min = 0, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_depth: Option<i32>,
    /// Maximum number of events that are accepted and not stored yet. Above it, publishing returns 429.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backlog: Option<i64>,
}

/// Images of the pods. The operator's settings give the defaults.
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
    /// Image of a managed PostgreSQL. Its major version must be `postgres.managed.version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
    /// When the kubelet pulls the images.
    pub pull_policy: PullPolicy,
    /// Names of Secrets in this namespace with the registry's credentials.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
}

/// A field that can be part of the deduplication key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are an event's fields")]
pub enum DedupField {
    Topic,
    EventId,
    Source,
}

impl DedupField {
    /// The field as it is written in the setting of the programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Source => "source",
        }
    }
}

/// When the kubelet pulls images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "as in a pod")]
pub enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

impl PullPolicy {
    /// The policy as it is written in a container.
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
