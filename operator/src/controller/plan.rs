//! A resource whose every value is known to work: what the builders build from.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::build::names::{Component, Names};
use crate::crd::{DeletionPolicy, DnsPeer, EventAggregator, LimitsSpec, Peer, PullPolicy, Resources};

/// A validated resource.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names and labels of all that belongs to it.
    pub names: Names,
    /// Makes an object go with the resource.
    pub owner: OwnerReference,
    /// Version of the spec.
    pub generation: i64,
    /// What becomes of the data.
    pub deletion_policy: DeletionPolicy,
    /// Images, none left open.
    pub images: Images,
    /// Fields that tell events apart, as the setting spells them.
    pub dedup_fields: String,
    /// Number of streams.
    pub streams: i32,
    /// How old events may get.
    pub retention: Option<String>,
    /// For how long an Idempotency-Key is honoured.
    pub idempotency_ttl: String,
    /// The aggregators.
    pub aggregator: AggregatorPlan,
    /// The publishers.
    pub publisher: PublisherPlan,
    /// Where the stream is.
    pub redis: Backend<RedisPlan>,
    /// Where the tables are.
    pub postgres: Backend<PostgresPlan>,
    /// Who may reach whom; none without policies.
    pub network: Option<NetworkPlan>,
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
    /// When they are pulled.
    pub pull_policy: PullPolicy,
    /// Secrets to pull them with.
    pub pull_secrets: Vec<String>,
}

/// The aggregators.
#[derive(Debug, Clone)]
pub struct AggregatorPlan {
    /// How many.
    pub replicas: i32,
    /// Transactions at the same time, for each.
    pub workers: i32,
    /// When others take over an entry.
    pub claim_after: String,
    /// When a silent replica leaves the group.
    pub consumer_ttl: String,
    /// Seconds to stop in.
    pub shutdown_timeout_seconds: i32,
    /// What a pod asks for.
    pub resources: Resources,
}

/// The publishers.
#[derive(Debug, Clone)]
pub struct PublisherPlan {
    /// How many.
    pub replicas: i32,
    /// What a request may bring.
    pub limits: LimitsSpec,
    /// Seconds to stop in.
    pub shutdown_timeout_seconds: i32,
    /// What a pod asks for.
    pub resources: Resources,
}

/// A server behind: run here, or there already.
#[derive(Debug, Clone)]
pub enum Backend<T> {
    /// Run by the operator.
    Managed(T),
    /// There already.
    External(ExternalPlan),
}

impl<T> Backend<T> {
    /// Whether the operator runs it.
    pub fn is_managed(&self) -> bool {
        matches!(self, Self::Managed(_))
    }
}

/// A managed Redis.
#[derive(Debug, Clone)]
pub struct RedisPlan {
    /// Its volume.
    pub volume: VolumePlan,
    /// Its pod's memory, in bytes.
    pub memory: i64,
    /// CPU set aside for it.
    pub cpu: Quantity,
}

/// A managed PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresPlan {
    /// Its volume.
    pub volume: VolumePlan,
    /// Its pod's memory, in bytes.
    pub memory: i64,
    /// CPU set aside for it.
    pub cpu: Quantity,
    /// Its major version.
    pub version: i32,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumePlan {
    /// Its size.
    pub size: Quantity,
    /// The same in bytes.
    pub bytes: i64,
    /// Its class; none is the cluster's default.
    pub storage_class: Option<String>,
}

/// A server that is there already.
#[derive(Debug, Clone)]
pub struct ExternalPlan {
    /// The Secret with its URL.
    pub secret: String,
    /// The key in it.
    pub key: String,
    /// Its port, from the URL.
    pub port: i32,
    /// Where it may be reached; everywhere without any.
    pub cidrs: Vec<String>,
}

/// Who may reach whom.
#[derive(Debug, Clone)]
pub struct NetworkPlan {
    /// Where names are resolved.
    pub dns: DnsPeer,
    /// Who publishes and queries; everybody without any.
    pub clients: Vec<Peer>,
    /// Who reads metrics.
    pub scrapers: Vec<Peer>,
    /// The operator's namespace; none when it runs outside of the cluster.
    pub operator_namespace: Option<String>,
}

/// What the operator's own settings say for all resources.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Image of aggregators.
    pub image_aggregator: String,
    /// Image of publishers.
    pub image_publisher: String,
    /// Image of Redis.
    pub image_redis: String,
    /// Image of PostgreSQL; `{version}` becomes the major version.
    pub image_postgres: String,
    /// The operator's namespace, when it runs in the cluster.
    pub operator_namespace: Option<String>,
}

/// Key of a generated password in its Secret.
pub const PASSWORD: &str = "password";

impl Plan {
    /// Whether a password is the operator's to make.
    pub fn managed_secrets(&self) -> impl Iterator<Item = Component> {
        [(self.redis.is_managed(), Component::Redis), (self.postgres.is_managed(), Component::Postgres)]
            .into_iter()
            .filter_map(|(managed, component)| managed.then_some(component))
    }
}

/// Hashes of what is in the Secrets that pods use, by part: a pod that uses a Secret is rolled when
/// its hash changes.
pub type Checksums = BTreeMap<Component, String>;

/// The resource's own namespace and name.
pub fn names_of(resource: &EventAggregator) -> Names {
    Names {
        name: resource.metadata.name.clone().unwrap_or_default(),
        namespace: resource.metadata.namespace.clone().unwrap_or_default(),
    }
}
