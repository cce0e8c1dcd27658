//! The Cluster.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::kinds::{Cluster, ClusterFields, GROUP, HIBERNATION};
use super::pods;
use crate::controller::build::names::Component;
use crate::controller::build::{meta, pod, tuning};
use crate::controller::cloud_native_pg::plan::ClusterPlan;
use crate::controller::plan::{DATABASE, Plan};
use crate::controller::retention;
use crate::crd::{ClusterBackupSpec, StorageSpec};

/// Settings of the server that do not follow from its memory, as the managed PostgreSQL has them.
const SETTINGS: [(&str, &str); 8] = [
    // A client that is gone must not hold its locks for long.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    // Few, spread checkpoints: each makes the pages after it be written twice.
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("wal_compression", "on"),
    ("random_page_cost", "1.1"),
    ("jit", "off"),
];

/// Returns the Cluster. It has an owner only if it is deleted with the resource, because CloudNativePG deletes the volumes
/// with it.
pub(super) fn build(plan: &Plan, cluster: &ClusterPlan) -> Cluster {
    let mut metadata = meta::meta(plan, plan.names.of(Component::Postgres), Component::Postgres);
    metadata.owner_references = retention::owner(plan.deletion_policy, &plan.owner).map(|owner| vec![owner]);
    let mut object = Cluster { metadata, spec: ClusterFields(spec(plan, cluster)), status: None };
    object.annotations_mut().insert(HIBERNATION.to_owned(), "off".to_owned());
    object
}

fn spec(plan: &Plan, cluster: &ClusterPlan) -> Map<String, Value> {
    let wanted = &cluster.spec;
    let mut spec = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            spec.insert(name.to_owned(), value);
        }
    };
    set("instances", json!(wanted.instances));
    set("imageName", json!(wanted.image));
    set(
        "imageCatalogRef",
        json!(wanted.image_catalog_ref.as_ref().map(|catalog| json!({
            "apiGroup": GROUP, "kind": catalog.kind, "name": catalog.name, "major": catalog.major,
        }))),
    );
    set("imagePullPolicy", json!(plan.images.pull_policy.as_str()));
    let secrets: Vec<_> = plan.images.pull_secrets.iter().map(|name| json!({ "name": name })).collect();
    set("imagePullSecrets", json!(pod::some_vec(secrets)));
    // Checksums find pages that changed on the disk, as they do in the managed PostgreSQL.
    set("bootstrap", json!({"initdb": {"database": DATABASE, "owner": DATABASE, "dataChecksums": true}}));
    set("storage", storage(&wanted.storage));
    set("walStorage", wanted.wal_storage.as_ref().map_or(Value::Null, storage));
    set("resources", json!(pod::resources(&wanted.resources, "100m", "1Gi")));
    set("postgresql", postgresql(cluster));
    set("backup", wanted.backup.as_ref().map_or(Value::Null, backup));
    set("plugins", wanted.backup.as_ref().map_or(Value::Null, plugins));
    for (name, value) in pods::fields(plan, &wanted.pods) {
        set(name, value);
    }
    spec
}

fn storage(storage: &StorageSpec) -> Value {
    match &storage.storage_class_name {
        Some(class) => json!({"size": storage.size, "storageClass": class}),
        None => json!({"size": storage.size}),
    }
}

fn postgresql(cluster: &ClusterPlan) -> Value {
    let mut parameters: BTreeMap<_, _> = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for (name, megabytes) in tuning::megabytes(cluster.memory, cluster.wal_bytes) {
        parameters.insert(name.to_owned(), format!("{megabytes}MB"));
    }
    parameters.insert("max_connections".to_owned(), cluster.max_connections.to_string());
    parameters.extend(cluster.spec.parameters.clone());
    let mut postgresql = json!({ "parameters": parameters });
    if cluster.is_synchronous() {
        let synchronous = &cluster.spec.synchronous;
        postgresql["synchronous"] =
            json!({"method": "any", "number": synchronous.number, "dataDurability": synchronous.data_durability});
    }
    postgresql
}

fn backup(backup: &ClusterBackupSpec) -> Value {
    let mut section = Map::new();
    if let Some(store) = &backup.barman_object_store {
        section.insert("barmanObjectStore".to_owned(), json!(store));
    }
    if let Some(policy) = &backup.retention_policy {
        section.insert("retentionPolicy".to_owned(), json!(policy));
    }
    if let Some(snapshot) = &backup.volume_snapshot {
        section.insert("volumeSnapshot".to_owned(), json!(snapshot));
    }
    if section.is_empty() { Value::Null } else { Value::Object(section) }
}

fn plugins(backup: &ClusterBackupSpec) -> Value {
    let Some(plugin) = &backup.plugin else { return Value::Null };
    json!([{"name": plugin.name, "isWALArchiver": true, "parameters": plugin.parameters}])
}
