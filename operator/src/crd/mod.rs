//! The custom resource `EventAggregator`: the spec, which its user writes, and the status, which the
//! operator writes.

mod add_rules;
mod auth;
mod backends;
mod backup;
mod backup_rules;
mod cloud_native_pg;
mod cloud_native_pg_rules;
mod deletion;
pub mod docs;
mod durability;
mod ingress;
pub mod meters;
mod monitoring;
mod network;
mod parameters;
mod places;
mod pods;
mod publisher_autoscaling;
mod resources;
mod rules;
#[cfg(test)]
mod rules_evaluation;
#[cfg(test)]
mod samples;
mod schema;
pub mod schemas;
mod secret_names;
mod service;
mod shrink;
mod spec;
mod status;
mod storage;
mod tls;
mod traces;
mod upgrade;
mod upgrade_rules;

pub use auth::{AuthSpec, JwtSpec, TokensSecret};
pub use backends::{ExternalSpec, ManagedPostgres, ManagedRedis, PostgresSpec, RedisSpec, SecretKeyRef, SentinelSpec};
pub use backup::{
    BackupPlace, BackupSpec, BackupStatus, RestoreFromSpec, RestoreSpec, RestoreState, RestoreStatus, S3Place,
};
pub use cloud_native_pg::{
    BackupPlugin, CloudNativePgSpec, ClusterBackupSpec, ClusterOperator, DataDurability, ImageCatalogKind,
    ImageCatalogRef, SynchronousSpec, VolumeSnapshotSpec,
};
pub use deletion::DeletionPolicy;
pub use durability::{DurabilitySetting, DurabilitySpec};
pub use ingress::{GatewayRef, HttpRouteSpec, IngressSpec};
pub use meters::{MeterAggregation, MeterSpec, MeterTime};
pub use monitoring::{MonitoringSpec, PodMonitorSpec, PrometheusRuleSpec};
pub use network::{DnsPeer, NetworkPolicySpec, Peer};
pub use pods::PodsSpec;
pub use publisher_autoscaling::PublisherAutoscaling;
pub use resources::Resources;
pub use schema::{crd, yaml};
pub use schemas::{SchemaPolicy, SchemaSpec};
pub use service::{ServiceSpec, ServiceType, TrafficPolicy};
pub use spec::{
    AggregatorSpec, Autoscaling, DedupField, EventAggregator, EventAggregatorSpec, ImagesSpec, LimitsSpec,
    PublisherSpec, PullPolicy,
};
pub use status::{CertificateStatus, ConditionType, EventAggregatorStatus, Totals, VolumesStatus};
pub use storage::StorageSpec;
pub use tls::{CaSecret, CertSecret, TlsSecrets, TlsSpec};
pub use traces::{HeadersSecret, OtlpProtocol, TracingSpec};
pub use upgrade::{EstimateStatus, PostgresStatus, UpgradeSpec, UpgradeState, UpgradeStatus};
