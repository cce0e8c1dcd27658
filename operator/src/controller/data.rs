//! First step: reads the objects that hold the data of a resource, and its StatefulSets, before all others: the deletion
//! policy needs nothing else.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::{Resource, ResourceExt};

use super::build::cloud_native_pg::kinds::Cluster;
use super::build::names::Component;
use super::context::Context;
use super::error::Result;
use super::optional::Optional;
use super::ownership::made_by_us;
use super::plan::names_of;
use super::reader::Reader;
use crate::crd::EventAggregator;

/// The objects that hold data, and those that use it.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// The PersistentVolumeClaims of their volumes.
    pub pvcs: Vec<PersistentVolumeClaim>,
    /// The Cluster of CloudNativePG, if the resource has one. Its volumes are deleted with it.
    pub clusters: Vec<Cluster>,
}

/// Reads the data objects of `resource`.
///
/// # Errors
/// [`Error::Api`](super::error::Error::Api) when the API server refuses a request or does not respond to it.
pub async fn fetch(context: &Context, resource: &EventAggregator) -> Result<Data> {
    let reader = Reader::new(&context.client, resource);
    let (secrets, stateful_sets, pvcs, clusters) = tokio::try_join!(
        reader.list::<Secret>(),
        reader.list(),
        reader.list(),
        clusters(&reader, &context.optional, resource)
    )?;
    let secrets = secrets.into_iter().map(|secret| (secret.name_any(), secret)).collect();
    let mut data = Data { secrets, stateful_sets, pvcs, clusters };
    // An object whose labels somebody removed is not listed. If a StatefulSet uses it, it is ours nevertheless.
    let names = names_of(resource);
    for component in [Component::Redis, Component::Postgres] {
        let name = names.of(component);
        if data.stateful_sets.iter().all(|set| set.name_any() != name) {
            continue;
        }
        if !data.secrets.contains_key(&name)
            && context.defaults.secret_selector.is_none()
            && let Some(secret) = reader.get(&name).await?
        {
            data.secrets.insert(name, secret);
        }
        let pvc = names.pvc(component);
        if data.pvcs.iter().all(|live| live.name_any() != pvc) {
            data.pvcs.extend(reader.get(&pvc).await?);
        }
    }
    Ok(data)
}

/// Returns the Cluster of the resource, also one whose labels somebody removed.
async fn clusters(reader: &Reader<'_>, optional: &Optional, resource: &EventAggregator) -> Result<Vec<Cluster>> {
    if resource.spec.postgres.cloud_native_pg.is_none() {
        return Ok(Vec::new());
    }
    let mut clusters: Vec<Cluster> = optional.list(reader).await?;
    let names = names_of(resource);
    let name = names.of(Component::Postgres);
    clusters.retain(|cluster| cluster.name_any() == name);
    if clusters.is_empty() && !optional.lacking().contains(Cluster::plural(&()).as_ref()) {
        let found: Option<Cluster> = reader.get(&name).await?;
        clusters.extend(found.filter(|found| made_by_us(&found.metadata, &names.selector(Component::Postgres))));
    }
    Ok(clusters)
}
