//! The ConfigMap of a server, with its start script and configuration.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume};

use super::meta::meta;
use super::names::{Component, short_hash};
use crate::controller::plan::Plan;

/// The directory in which the files are mounted.
pub(super) const DIRECTORY: &str = "/etc/sluice";
/// Name of the script that starts the server.
pub(super) const START: &str = "start.sh";

/// Returns the ConfigMap with these files.
pub(super) fn config_map(plan: &Plan, component: Component, files: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap { metadata: meta(plan, plan.names.of(component), component), data: Some(files), ..ConfigMap::default() }
}

/// Returns the ConfigMap of this name as a volume.
pub(super) fn volume(name: &str) -> Volume {
    let source = ConfigMapVolumeSource { name: name.to_owned(), ..ConfigMapVolumeSource::default() };
    Volume { name: "config".to_owned(), config_map: Some(source), ..Volume::default() }
}

/// Returns the command that starts the server.
pub(super) fn command() -> Vec<String> {
    vec!["sh".to_owned(), format!("{DIRECTORY}/{START}")]
}

/// Returns a hash of the files.
pub(super) fn checksum(files: &BTreeMap<String, String>) -> String {
    let all: Vec<_> = files.iter().map(|(name, text)| format!("{name}\n{text}\n")).collect();
    short_hash(all.concat().as_bytes())
}

/// Annotation of pods with the hash of their ConfigMap. The pods are replaced when it changes.
pub(super) const CONFIG_CHECKSUM: &str = "sluice.dev/config";
/// Annotation of pods with the hash of the Redis password or URL. The pods are replaced when it changes.
pub(super) const REDIS_CHECKSUM: &str = "sluice.dev/redis-secret";
/// Annotation of pods with the hash of the PostgreSQL password or URL. The pods are replaced when it changes.
pub(super) const POSTGRES_CHECKSUM: &str = "sluice.dev/postgres-secret";
/// Annotation of pods with the hash of the headers for the endpoint of spans. The pods are replaced when it changes.
pub(super) const TRACING_CHECKSUM: &str = "sluice.dev/tracing-secret";
