//! Second step: enforces `spec.deletionPolicy`. Under `Delete` the resource owns its volumes and passwords, so that
//! Kubernetes deletes them with it; under `Retain` they have no owner. A StatefulSet never owns a volume:
//! whoever deletes the StatefulSet alone must not delete the data.
//!
//! A Cluster of CloudNativePG counts as a volume, because its volumes are deleted with it.
//!
//! It also puts back the labels by which these objects are found.
//!
//! It runs before everything that can fail, also for paused and invalid resources, because the resource can
//! be deleted at any time, and the policy that its user sees in the spec must then hold.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build::cloud_native_pg::kinds::Cluster;
use super::build::names::{Component, MANAGER, Names};
use super::data::Data;
use super::error::{Error, Result};
use super::plan::{Plan, names_of};
use crate::crd::{DeletionPolicy, EventAggregator};

/// Gives all volumes and passwords their labels and the owners that the policy asks for. Returns the policy if it is in force:
/// `None` while the controller of a StatefulSet may still make the StatefulSet an owner.
///
/// # Errors
/// The first [`Error::Api`]. All other objects have been changed nevertheless.
pub async fn enforce(client: &Client, resource: &EventAggregator, data: &mut Data) -> Result<Option<DeletionPolicy>> {
    // Without a uid the resource is not stored, and can own nothing.
    let Some(owner) = resource.controller_owner_ref(&()) else { return Ok(None) };
    let policy = resource.spec.deletion_policy;
    let namespace = resource.namespace().unwrap_or_default();
    let sets = data.stateful_sets.iter().filter(|set| set.owner_references().iter().any(|one| one.uid == owner.uid));
    let sets = sets.filter_map(|set| set.metadata.uid.clone()).collect();
    let owners = Owners { policy, owner, sets, names: names_of(resource) };
    let mut result = Ok(Some(policy));

    let api: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    for set in data.stateful_sets.iter_mut().filter(|set| owners.is_alive(&set.metadata) && owns_volumes(set)) {
        // The controller of the StatefulSet removes its owner references a moment later.
        let retain = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}});
        let patched = patch(&api, set, &retain).await.map(|()| None);
        result = result.and(patched);
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    for pvc in &mut data.pvcs {
        let changed = owners.set(&api, pvc).await;
        result = result.and_then(|policy| changed.map(|()| policy));
    }
    let api: Api<Cluster> = Api::namespaced(client.clone(), &namespace);
    for cluster in &mut data.clusters {
        let changed = owners.set(&api, cluster).await;
        result = result.and_then(|policy| changed.map(|()| policy));
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for secret in data.secrets.values_mut() {
        let changed = owners.set(&api, secret).await;
        result = result.and_then(|policy| changed.map(|()| policy));
    }
    result
}

/// Takes over a Secret that an earlier resource of the same name left, and whose labels somebody removed.
///
/// # Errors
/// [`Error::Api`].
pub async fn adopt(client: &Client, plan: &Plan, secret: &mut Secret) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &plan.names.namespace);
    let (owner, names) = (plan.owner.clone(), plan.names.clone());
    Owners { policy: plan.deletion_policy, owner, sets: Vec::new(), names }.set(&api, secret).await
}

/// Returns the owner of a volume or password. It has one only when it is deleted with the resource.
pub fn owner(policy: DeletionPolicy, owner: &OwnerReference) -> Option<OwnerReference> {
    match policy {
        DeletionPolicy::Retain => None,
        DeletionPolicy::Delete => Some(owner.clone()),
    }
}

/// Whether the StatefulSet deletes its volumes when it is deleted, as an earlier version asked for.
fn owns_volumes(set: &StatefulSet) -> bool {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    policy.is_some_and(|policy| policy.when_deleted.as_deref() == Some("Delete"))
}

/// The owners that volumes and passwords should have.
struct Owners {
    policy: DeletionPolicy,
    /// The resource.
    owner: OwnerReference,
    /// Its StatefulSets, by uid.
    sets: Vec<String>,
    /// The names of its objects.
    names: Names,
}

impl Owners {
    /// Whether an object may be changed: it is not being deleted, and nobody else controls it.
    fn is_alive(&self, meta: &ObjectMeta) -> bool {
        let mut controllers = meta.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
        meta.deletion_timestamp.is_none() && controllers.all(|owner| self.is_ours(owner))
    }

    /// Whether an owner is the resource or one of its StatefulSets.
    fn is_ours(&self, owner: &OwnerReference) -> bool {
        owner.uid == self.owner.uid || self.sets.contains(&owner.uid)
    }

    /// Returns the component to which a Secret or PersistentVolumeClaim of this name belongs. One with another name was
    /// made by somebody else, whatever its labels are.
    fn component(&self, name: &str) -> Option<Component> {
        [Component::Redis, Component::Postgres].into_iter().find(|component| {
            let secret = self.names.of(*component);
            let of_pod = name.strip_prefix("data-").and_then(|name| name.rsplit_once('-'));
            let is_set = |set: &str| match component {
                Component::Postgres => self.names.postgres_major(set).is_some(),
                _ => set == secret,
            };
            name == secret
                || of_pod.is_some_and(|(set, ordinal)| {
                    is_set(set) && ordinal.bytes().all(|byte| byte.is_ascii_digit()) && !ordinal.is_empty()
                })
        })
    }

    /// Changes the labels and owners of an object if they differ from what they should be. Those of others stay.
    async fn set<K>(&self, api: &Api<K>, object: &mut K) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let meta = object.meta();
        let Some(component) = self.component(&object.name_any()).filter(|_| self.is_alive(meta)) else { return Ok(()) };
        let wanted = owner(self.policy, &self.owner);
        let owners = meta.owner_references.iter().flatten();
        let (ours, others): (Vec<_>, Vec<_>) = owners.partition(|owner| self.is_ours(owner));
        let is_right = match &wanted {
            Some(_) => ours.len() == 1 && ours.iter().all(|owner| owner.uid == self.owner.uid),
            None => ours.is_empty(),
        };
        let labels = self.names.labels(component);
        if is_right && labels.iter().all(|(name, value)| object.labels().get(name) == Some(value)) {
            return Ok(());
        }
        let owners: Vec<_> = others.into_iter().chain(wanted.as_ref()).collect();
        // The version protects the owners that somebody else adds at the same time.
        let version = &meta.resource_version;
        let change = json!({"metadata": {"labels": labels, "ownerReferences": owners, "resourceVersion": version}});
        patch(api, object, &change).await
    }
}

/// Changes an object in the cluster, and takes over the result.
async fn patch<K>(api: &Api<K>, object: &mut K, change: &Value) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let (kind, name) = (K::kind(&()), object.name_any());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patched = api.patch(&name, &params, &Patch::Merge(change)).await;
    *object = patched.map_err(Error::api(format!("apply the deletion policy to {kind} {name}")))?;
    tracing::info!(%kind, name, "applied the deletion policy");
    Ok(())
}
