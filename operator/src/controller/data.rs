//! First step: reads the objects that hold the data of a resource, and its StatefulSets, before all others: the deletion
//! policy needs nothing else.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::Client;

use super::error::Result;
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
pub async fn fetch(client: &Client, resource: &EventAggregator) -> Result<Data> {
    let reader = Reader::new(client, resource);
    let secrets = reader.list::<Secret>().await?.into_iter();
    Ok(Data {
        secrets: secrets.map(|secret| (secret.metadata.name.clone().unwrap_or_default(), secret)).collect(),
        stateful_sets: reader.list().await?,
        pvcs: reader.list().await?,
    })
}
