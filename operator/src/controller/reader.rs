//! Reads objects of one resource from the API server: by its labels, or by name.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::plan::names_of;
use crate::crd::EventAggregator;

/// Reads objects in the namespace of a resource.
pub(super) struct Reader<'a> {
    client: &'a Client,
    namespace: String,
    params: ListParams,
}

impl<'a> Reader<'a> {
    /// Creates the reader of a resource.
    pub(super) fn new(client: &'a Client, resource: &EventAggregator) -> Self {
        let names = names_of(resource);
        let params = ListParams::default().labels(&names.selector_of_objects());
        Self { client, namespace: names.namespace, params }
    }

    /// Returns the objects of a kind that have the labels of the resource.
    pub(super) async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let list = self.api::<K>().list(&self.params).await;
        Ok(list.map_err(Error::api(format!("list {}", K::plural(&()))))?.items)
    }

    /// Returns the object of this name, if it exists.
    pub(super) async fn get<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().get_opt(name).await.map_err(Error::api(format!("get {} {name}", K::kind(&()))))
    }

    /// Returns the Secret of this name to which the resource refers, if it exists and has these labels.
    pub(super) async fn referenced(&self, name: &str, labels: Option<&str>) -> Result<Option<Secret>> {
        let Some(labels) = labels else { return self.get(name).await };
        // An authorizer that knows selectors can hold the operator to Secrets with these labels. It could not for `get`.
        let params = ListParams::default().labels(labels).fields(&format!("metadata.name={name}"));
        let list = self.api::<Secret>().list(&params).await;
        Ok(list.map_err(Error::api(format!("list Secret {name} with the labels {labels}")))?.items.into_iter().next())
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
