//! A server's files in a ConfigMap: its start script and configuration.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume};

use super::meta::meta;
use super::names::{Component, short_hash};
use crate::controller::plan::Plan;

/// Where the files appear.
pub(super) const FOLDER: &str = "/etc/sluice";
/// The script among them that starts the server.
pub(super) const START: &str = "start.sh";

/// The ConfigMap with these files.
pub(super) fn config_map(plan: &Plan, component: Component, files: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap { metadata: meta(plan, plan.names.of(component), component), data: Some(files), ..ConfigMap::default() }
}

/// The ConfigMap as a volume.
pub(super) fn volume(plan: &Plan, component: Component) -> Volume {
    let source = ConfigMapVolumeSource { name: plan.names.of(component), ..ConfigMapVolumeSource::default() };
    Volume { name: "config".to_owned(), config_map: Some(source), ..Volume::default() }
}

/// What starts the server.
pub(super) fn command() -> Vec<String> {
    vec!["sh".to_owned(), format!("{FOLDER}/{START}")]
}

/// Changes with the files.
pub(super) fn checksum(files: &BTreeMap<String, String>) -> String {
    let all: Vec<_> = files.iter().map(|(name, text)| format!("{name}\n{text}\n")).collect();
    short_hash(all.concat().as_bytes())
}

/// Annotation of pods: rolls them when their ConfigMap changes.
pub(super) const CONFIG_CHECKSUM: &str = "sluice.dev/config";
/// Annotation of pods: rolls them when the Redis password or URL changes.
pub(super) const REDIS_CHECKSUM: &str = "sluice.dev/redis-secret";
/// Annotation of pods: rolls them when the PostgreSQL password or URL changes.
pub(super) const POSTGRES_CHECKSUM: &str = "sluice.dev/postgres-secret";
