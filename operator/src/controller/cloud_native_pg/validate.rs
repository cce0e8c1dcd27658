//! Checks what the resource says about a Cluster of CloudNativePG, and whether aggregators can use it.

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use super::plan::ClusterPlan;
use crate::certificates::{CA, inspect};
use crate::controller::backup::check_schedule;
use crate::controller::build::cloud_native_pg::kinds::{Cluster, ScheduledBackup};
use crate::controller::build::names::{Component, Names};
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::{PASSWORD, max_connections};
use crate::crd::{CloudNativePgSpec, Resources, StorageSpec};
use crate::quantity;

/// The field with the Cluster.
const FIELD: &str = "spec.postgres.cloudNativePG";
/// Memory that is requested for each instance if the resource says nothing about it.
const DEFAULT_MEMORY: i64 = 1 << 30;
/// The least memory with which the server is tuned, and starts.
const MIN_MEMORY: i64 = 128 << 20;

/// Checks a Cluster. The second value is what aggregators wait for before they start, if they must.
///
/// # Errors
/// [`Error::CloudNativePgMissing`], [`Error::Invalid`], and [`Error::SecretMissing`] or [`Error::SecretInvalid`] for a
/// Secret of CloudNativePG.
pub fn validate(spec: &CloudNativePgSpec, live: &Live, names: &Names) -> Result<(ClusterPlan, Option<String>)> {
    let backups = spec.backup.as_ref().map(|_| ScheduledBackup::plural(&()));
    let needed = [Some(Cluster::plural(&())), backups].into_iter().flatten();
    if let Some(kind) = needed.into_iter().find(|kind| live.lacks.contains(kind.as_ref())) {
        return Err(Error::CloudNativePgMissing { kind: kind.into_owned() });
    }
    let bytes = size("storage", &spec.storage)?;
    let wal_bytes = spec.wal_storage.as_ref().map(|storage| size("walStorage", storage)).transpose()?;
    if let Some(backup) = &spec.backup {
        check_schedule(&format!("{FIELD}.backup.schedule"), &backup.schedule)?;
    }
    let memory = memory(&spec.resources)?;
    let plan = ClusterPlan {
        spec: spec.clone(),
        memory,
        wal_bytes: wal_bytes.unwrap_or(bytes),
        max_connections: connections(spec, memory)?,
    };
    Ok((plan, waits_for(live, names)?))
}

fn size(field: &str, storage: &StorageSpec) -> Result<i64> {
    let field = format!("{FIELD}.{field}.size");
    match quantity::whole(&storage.size) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        Ok(_) => Err(Error::invalid(field, "must be positive")),
        Err(message) => Err(Error::invalid(field, message)),
    }
}

/// Returns the memory of an instance: its request, its limit, or the default. The request comes first, because CloudNativePG
/// refuses one that is less than `shared_buffers`.
fn memory(resources: &Resources) -> Result<i64> {
    let (field, amount) = match (resources.requests.get("memory"), resources.limits.get("memory")) {
        (Some(request), _) => ("requests", request),
        (None, Some(limit)) => ("limits", limit),
        (None, None) => return Ok(DEFAULT_MEMORY),
    };
    let field = format!("{FIELD}.resources.{field}.memory");
    match quantity::whole(amount) {
        Ok(bytes) if bytes >= MIN_MEMORY => Ok(bytes),
        Ok(_) => Err(Error::invalid(field, format!("must be at least {}Mi", MIN_MEMORY >> 20))),
        Err(message) => Err(Error::invalid(field, message)),
    }
}

/// Returns the number of connections: that of the user, or the one that follows from the memory.
fn connections(spec: &CloudNativePgSpec, memory: i64) -> Result<i64> {
    let Some(text) = spec.parameters.get("max_connections") else { return Ok(max_connections(memory)) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::invalid(format!("{FIELD}.parameters.max_connections"), "must be a number above 0")),
    }
}

/// Returns what aggregators wait for before they start. Once they have started they are not stopped again when the Cluster
/// is away: they wait for it themselves.
fn waits_for(live: &Live, names: &Names) -> Result<Option<String>> {
    let aggregators = names.of(Component::Aggregator);
    let mut sets = live.objects.stateful_sets.iter().filter(|set| set.name_any() == aggregators);
    let started = sets.any(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0) > 0);
    for (name, key) in [(names.cluster_user(), PASSWORD), (names.cluster_authority(), CA)] {
        let secret = live.secrets.get(&name);
        match secret.and_then(|secret| value(secret, key)) {
            Some(value) => check(&name, key, value)?,
            None if started => return Err(Error::SecretMissing { field: FIELD.to_owned(), name, key: key.to_owned() }),
            None => return Ok(Some(format!("Secret {name} with the key {key}, which CloudNativePG creates"))),
        }
    }
    let cluster = names.of(Component::Postgres);
    let status = live.objects.clusters.iter().find(|live| live.name_any() == cluster);
    let ready = status.and_then(|live| live.status.as_ref()?.ready_instances).unwrap_or(0);
    Ok((!started && ready == 0).then(|| format!("a ready instance of Cluster {cluster}")))
}

/// Checks a value in a Secret of CloudNativePG. The password is a part of a URL, and somebody may have changed it.
fn check(name: &str, key: &str, value: &[u8]) -> Result<()> {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let wrong = match key {
        CA => inspect::certificates(value).err(),
        _ if value.is_empty() || !value.iter().all(safe) => {
            Some("must not be empty and must consist of letters, digits and the characters -._~".to_owned())
        }
        _ => None,
    };
    match wrong {
        Some(message) => Err(Error::SecretInvalid { name: name.to_owned(), key: key.to_owned(), message }),
        None => Ok(()),
    }
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}
