//! The plan: a validated resource. It is the only input of the builders, so that they never receive an invalid
//! value.

use std::collections::BTreeMap;
use std::convert::Infallible;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::build::names::{Component, Names};
use super::cloud_native_pg::plan::ClusterPlan;
use super::tls::plan::TlsPlan;
use super::traces::plan::TracingPlan;
use super::upgrade::plan::{Previous, UpgradePlan};
use crate::crd::{
    DeletionPolicy, DnsPeer, DurabilitySpec, EventAggregator, HttpRouteSpec, IngressSpec, JwtSpec, LimitsSpec, Peer,
    PodMonitorSpec, PodsSpec, PrometheusRuleSpec, PublisherAutoscaling, PullPolicy, Resources, SentinelSpec,
    ServiceSpec,
};

/// A validated resource.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names and labels of its objects.
    pub names: Names,
    /// The owner reference that makes Kubernetes delete an object together with the resource.
    pub owner: OwnerReference,
    /// Version of the spec (`metadata.generation`).
    pub generation: i64,
    /// Whether the data is deleted with the resource.
    pub deletion_policy: DeletionPolicy,
    /// Images of all pods.
    pub images: Images,
    /// Fields whose equality makes an event a duplicate, separated by commas as in the setting.
    pub dedup_fields: String,
    /// Number of streams.
    pub streams: i32,
    /// Prefix of the keys in Redis.
    pub stream_prefix: String,
    /// Schema of the tables in PostgreSQL.
    pub schema: String,
    /// Age at which events are removed, such as `30d`.
    pub retention: Option<String>,
    /// For how long an Idempotency-Key is remembered, such as `24h`.
    pub idempotency_ttl: String,
    /// Percentage of Redis' memory for the records of Idempotency-Keys.
    pub idempotency_memory_percent: Option<i32>,
    /// The file of meters, if there are any.
    pub meters: Option<String>,
    /// The file of schemas, if there are any.
    pub schemas: Option<String>,
    /// What pods require of the settings of Redis and PostgreSQL.
    pub durability: DurabilitySpec,
    /// The aggregators.
    pub aggregator: AggregatorPlan,
    /// The publishers.
    pub publisher: PublisherPlan,
    /// The Redis that holds the streams.
    pub redis: Backend<RedisPlan>,
    /// How to log in to the Sentinels of an external Redis.
    pub sentinel: Option<SentinelSpec>,
    /// Number of replicas of an external Redis that must have confirmed a request.
    pub redis_replicas: i32,
    /// The PostgreSQL that holds the tables.
    pub postgres: PostgresBackend,
    /// The upgrade of a managed PostgreSQL that is asked for.
    pub upgrade: Option<UpgradePlan>,
    /// The server that the upgrade fills, from when it has begun.
    pub next: Option<PostgresPlan>,
    /// What is left of former major versions.
    pub previous: Previous,
    /// What is to be restored into it. No aggregator runs until it has ended.
    pub restore: Option<RestorePlan>,
    /// What identifies the restores that the resource asks for, done or not.
    pub asked: Restores,
    /// The NetworkPolicies, if there are any.
    pub network: Option<NetworkPlan>,
    /// The PodMonitor, if there is one.
    pub pod_monitor: Option<PodMonitorSpec>,
    /// The PrometheusRule, if there is one.
    pub prometheus_rule: Option<PrometheusRuleSpec>,
    /// What hinders the autoscaling that the resource asks for, a sentence for each component.
    pub autoscaling_conflicts: Vec<String>,
    /// Whether no pod shall run.
    pub hibernated: bool,
    /// Who may use the programs, if not everybody.
    pub auth: Option<AuthPlan>,
    /// TLS on all connections, if it is enabled.
    pub tls: Option<TlsPlan>,
    /// Where spans are sent, if anywhere. It is on the heap, because the plan is moved through deep calls.
    pub tracing: Option<Box<TracingPlan>>,
    /// Whether the pods have the user ids of their images. Otherwise the cluster assigns them.
    pub fixed_user_ids: bool,
    /// The labels of the Secrets that the operator reads, if it does not read all to which the resource refers.
    pub secret_labels: Option<BTreeMap<String, String>>,
    /// The address of the runbooks, to which alerts link.
    pub runbooks: String,
}

/// Images of all pods.
#[derive(Debug, Clone)]
pub struct Images {
    /// Image of the aggregators.
    pub aggregator: String,
    /// Image of the publishers.
    pub publisher: String,
    /// Image of Redis.
    pub redis: String,
    /// Image of PostgreSQL.
    pub postgres: String,
    /// When the kubelet pulls them.
    pub pull_policy: PullPolicy,
    /// Names of the Secrets with the registry's credentials.
    pub pull_secrets: Vec<String>,
}

/// The aggregators.
#[derive(Debug, Clone)]
pub struct AggregatorPlan {
    /// Number of pods.
    pub replicas: i32,
    /// What they wait for before they start, if the number of pods is 0 because of it.
    pub waits_for: Option<String>,
    /// Concurrent transactions of each replica.
    pub workers: i32,
    /// How long an entry may be pending before another replica claims it, such as `30s`.
    pub claim_after: String,
    /// After how long without activity a replica is removed from the consumer group, such as `5m`.
    pub consumer_ttl: String,
    /// Seconds for a graceful shutdown.
    pub shutdown_timeout_seconds: i32,
    /// Resource requests and limits of a pod.
    pub resources: Resources,
    /// What its user says about the pods.
    pub pods: PodsSpec,
}

/// The publishers.
#[derive(Debug, Clone)]
pub struct PublisherPlan {
    /// Number of pods. `None` means that a HorizontalPodAutoscaler sets it.
    pub replicas: Option<i32>,
    /// The autoscaler that the operator creates.
    pub autoscaling: Option<PublisherAutoscaling>,
    /// Limits of a publish request.
    pub limits: LimitsSpec,
    /// The Service of the publishers.
    pub service: ServiceSpec,
    /// The Ingress, if there is one.
    pub ingress: Option<IngressSpec>,
    /// The route of the Gateway API, if there is one.
    pub http_route: Option<HttpRouteSpec>,
    /// Seconds for a graceful shutdown.
    pub shutdown_timeout_seconds: i32,
    /// Resource requests and limits of a pod.
    pub resources: Resources,
    /// What its user says about the pods.
    pub pods: PodsSpec,
}

/// Redis or PostgreSQL: managed by the operator, external, or, as far as there is such a kind, a cluster that another
/// operator runs.
#[derive(Debug, Clone)]
pub enum Backend<T, C = Infallible> {
    /// Run by the operator.
    Managed(T),
    /// Exists independently of the operator.
    External(ExternalPlan),
    /// Run by another operator, which this operator tells what to run.
    Cluster(C),
}

/// PostgreSQL, which CloudNativePG may run.
pub type PostgresBackend = Backend<PostgresPlan, ClusterPlan>;

impl<T, C> Backend<T, C> {
    /// Whether the operator runs the server.
    pub fn is_managed(&self) -> bool {
        matches!(self, Self::Managed(_))
    }

    /// Returns the plan of a server that the operator runs.
    pub fn managed(&self) -> Option<&T> {
        match self {
            Self::Managed(plan) => Some(plan),
            Self::External(_) | Self::Cluster(_) => None,
        }
    }
}

/// A managed Redis.
#[derive(Debug, Clone)]
pub struct RedisPlan {
    /// Its volume.
    pub volume: VolumePlan,
    /// Its pod's memory, in bytes.
    pub memory: i64,
    /// Its CPU request.
    pub cpu: Quantity,
    /// What its user says about the pod.
    pub pods: PodsSpec,
    /// Parameters of its user, in the configuration file.
    pub parameters: BTreeMap<String, String>,
}

/// A managed PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresPlan {
    /// Its volume.
    pub volume: VolumePlan,
    /// Its pod's memory, in bytes.
    pub memory: i64,
    /// Its CPU request.
    pub cpu: Quantity,
    /// What its user says about the pod.
    pub pods: PodsSpec,
    /// Parameters of its user, in the configuration file.
    pub parameters: BTreeMap<String, String>,
    /// Its major version.
    pub version: i32,
    /// Its image.
    pub image: String,
    /// Name of its StatefulSet and of its ConfigMap.
    pub set: String,
    /// Whether its volume is marked as incomplete until an upgrade has filled it.
    pub begins_empty: bool,
    /// When and where it is backed up.
    pub backup: Option<BackupPlan>,
}

/// When and where PostgreSQL is backed up.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// The schedule of the CronJob.
    pub schedule: String,
    /// Number of backups to keep.
    pub keep: i32,
    /// Whether no backup is made.
    pub suspend: bool,
    /// Where backups are stored.
    pub place: PlacePlan,
}

/// A place for backups.
#[derive(Debug, Clone)]
pub struct PlacePlan {
    /// The URL, with the folder of the resource.
    pub url: String,
    /// The PersistentVolumeClaim in which they are.
    pub claim: Option<String>,
    /// The S3 bucket in which they are.
    pub s3: Option<S3Plan>,
}

/// An S3 bucket.
#[derive(Debug, Clone)]
pub struct S3Plan {
    /// URL of the server, if it is not that of AWS.
    pub endpoint: Option<String>,
    /// The port of the server.
    pub port: i32,
    /// The region.
    pub region: String,
    /// Name of the Secret with the credentials.
    pub secret: String,
    /// Whether the Secret has a CA.
    pub has_ca: bool,
}

/// What identifies the restores that a resource asks for.
#[derive(Debug, Clone, Default)]
pub struct Restores {
    /// That of `spec.restoreFrom`.
    pub restore_from: Option<String>,
    /// That of `spec.postgres.managed.restore`.
    pub restore: Option<String>,
}

/// A backup that is to be restored, and has not been yet.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// What identifies the restore. It is noted in the database, so that it is done once.
    pub key: String,
    /// Name of the backup; `None` means the newest.
    pub backup: Option<String>,
    /// Where it is.
    pub place: PlacePlan,
    /// Whether it replaces what is there. Otherwise nothing must be there.
    pub replaces: bool,
    /// The message if it has failed, and nothing can begin before it succeeds.
    pub failed: Option<String>,
    /// How long it takes and whether Redis holds the events that arrive meanwhile, in words, if that is known.
    pub estimate: Option<String>,
}

impl RedisPlan {
    /// The memory for events and records, in bytes.
    pub fn max_memory(&self) -> i64 {
        (self.memory / 2).min(self.volume.bytes / 4)
    }
}

impl PostgresPlan {
    /// The number of connections that the server accepts.
    pub fn max_connections(&self) -> i64 {
        max_connections(self.memory)
    }
}

/// Returns the number of connections that a server of this memory accepts: 5 MiB for each, at least 40.
pub fn max_connections(memory: i64) -> i64 {
    (memory / (5 << 20)).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// The smallest value of `max_connections`.
const MIN_CONNECTIONS: i64 = 40;
/// The largest value of `max_connections`. Each connection is a process.
pub const MAX_CONNECTIONS: i64 = 1_000;

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumePlan {
    /// The size that is asked for.
    pub size: Quantity,
    /// The size in bytes that can be used: that of the existing volume while it is smaller than asked for.
    pub bytes: i64,
    /// Its storage class; `None` means the cluster's default.
    pub storage_class: Option<String>,
}

/// An external server.
#[derive(Debug, Clone)]
pub struct ExternalPlan {
    /// Name of the Secret with its URL.
    pub secret: String,
    /// The key in the Secret.
    pub key: String,
    /// Whether it has replicas that fail over: its URL names Sentinels or a Redis Cluster.
    pub fails_over: bool,
    /// The ports that NetworkPolicies open: those of the URL, unless the resource has another one.
    pub ports: Vec<i32>,
    /// The Secret and the key in it with the CAs that are trusted.
    pub ca: Option<(String, String)>,
    /// The Secret with the certificate of the pods.
    pub cert: Option<String>,
    /// Address ranges of the server; if empty, NetworkPolicies open its port for all addresses.
    pub cidrs: Vec<String>,
}

/// Who may use the programs.
#[derive(Debug, Clone)]
pub struct AuthPlan {
    /// The tokens of the user, as YAML.
    pub tokens: Vec<u8>,
    /// The JWTs that are accepted, with the port of their issuer.
    pub jwt: Option<(JwtSpec, i32)>,
    /// Requests that a client may send in a second.
    pub requests_per_second: Option<i32>,
    /// Events that a client may publish in a second.
    pub events_per_second: Option<i32>,
    /// Name of the Secret with the file of tokens.
    pub secret: String,
}

/// Peers whose connections the NetworkPolicies allow.
#[derive(Debug, Clone)]
pub struct NetworkPlan {
    /// The DNS servers.
    pub dns: DnsPeer,
    /// Pods that may publish and query; if empty, all may.
    pub clients: Vec<Peer>,
    /// Pods that may read metrics.
    pub scrapers: Vec<Peer>,
    /// The operator's namespace; `None` when it runs outside the cluster.
    pub operator_namespace: Option<String>,
}

/// Values from the operator's settings that hold for all resources.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Image of aggregators.
    pub image_aggregator: String,
    /// Image of publishers.
    pub image_publisher: String,
    /// Image of Redis.
    pub image_redis: String,
    /// Image of PostgreSQL; `{version}` is replaced by the major version.
    pub image_postgres: String,
    /// The operator's namespace; `None` when it runs outside the cluster.
    pub operator_namespace: Option<String>,
    /// Whether pods have the user ids of their images.
    pub fixed_user_ids: bool,
    /// The labels of the Secrets that the operator reads for resources; `None` means that it reads all they refer to.
    pub secret_selector: Option<String>,
    /// The address of the runbooks, to which alerts link.
    pub runbooks: String,
}

/// Key in a Secret that holds a generated password.
pub const PASSWORD: &str = "password";
/// Name of the database in a PostgreSQL that the operator has made, and of the user that owns it.
pub const DATABASE: &str = "sluice";

impl Plan {
    /// Returns the components whose password the operator generates.
    pub fn managed_secrets(&self) -> impl Iterator<Item = Component> {
        [(self.redis.is_managed(), Component::Redis), (self.postgres.is_managed(), Component::Postgres)]
            .into_iter()
            .filter_map(|(managed, component)| managed.then_some(component))
    }

    /// Whether an upgrade of PostgreSQL needs all aggregators to be stopped.
    pub fn is_switching(&self) -> bool {
        self.upgrade.as_ref().is_some_and(UpgradePlan::is_down) || !self.previous.running.is_empty()
    }

    /// Returns the backups, if there are any.
    pub fn backup(&self) -> Option<&BackupPlan> {
        self.postgres.managed()?.backup.as_ref()
    }

    /// Whether metrics and probes of the programs are at a port of their own, which speaks no TLS and needs no token.
    pub fn has_metrics_port(&self) -> bool {
        self.tls.is_some() || self.auth.is_some()
    }

    /// Returns what the user of the resource says about the pods of a component, if it has any.
    pub fn pods(&self, component: Component) -> Option<&PodsSpec> {
        match component {
            Component::Aggregator => Some(&self.aggregator.pods),
            Component::Publisher => Some(&self.publisher.pods),
            Component::Redis => self.redis.managed().map(|redis| &redis.pods),
            Component::Postgres => self.postgres.managed().map(|postgres| &postgres.pods),
            Component::Backup | Component::Client => None,
        }
    }
}

/// A hash of the Secret of each component. Pods that use a Secret are replaced when its hash changes.
pub type Checksums = BTreeMap<Component, String>;

/// Returns the names of the objects of `resource`.
pub fn names_of(resource: &EventAggregator) -> Names {
    Names {
        name: resource.metadata.name.clone().unwrap_or_default(),
        namespace: resource.metadata.namespace.clone().unwrap_or_default(),
    }
}
