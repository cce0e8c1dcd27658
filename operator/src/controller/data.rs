//! First step: reads the objects that hold the data of a resource, and its StatefulSets, before all others: the deletion
//! policy needs nothing else.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::ResourceExt;

use super::build::names::Component;
use super::context::Context;
use super::error::Result;
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
}

/// Reads the data objects of `resource`.
///
/// # Errors
/// [`Error::Api`](super::error::Error::Api) when the API server refuses a request or does not respond to it.
pub async fn fetch(context: &Context, resource: &EventAggregator) -> Result<Data> {
    let reader = Reader::new(&context.client, resource);
    let (secrets, stateful_sets, pvcs) = tokio::try_join!(reader.list::<Secret>(), reader.list(), reader.list())?;
    let secrets = secrets.into_iter().map(|secret| (secret.name_any(), secret)).collect();
    let mut data = Data { secrets, stateful_sets, pvcs };
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
