//! Grows volumes. The volumeClaimTemplates of a StatefulSet are immutable. Therefore the PersistentVolumeClaims
//! (PVCs) are patched, and then the StatefulSet is deleted without its pods and created again.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::build::Objects;
use super::build::names::MANAGER;
use super::error::{Error, Result};
use super::fetch::Live;
use super::ownership::owned_by_another;
use super::plan::Plan;
use crate::quantity;

/// Grows all volumes that are smaller than desired. For a volume that cannot grow, its current size
/// becomes the desired one, so that everything else can be applied, and the error is returned as
/// `Ok(Some(..))`.
///
/// # Errors
/// [`Error::Leftover`] when a PVC is being deleted or belongs to a StatefulSet that no longer exists, or
/// while a StatefulSet is created again, and [`Error::Api`].
pub async fn grow(client: &Client, plan: &Plan, live: &Live, desired: &mut Objects) -> Result<Option<Error>> {
    let mut refused = None;
    for set in &mut desired.stateful_sets {
        let Some(size) = set_size(set).cloned() else { continue };
        let pvcs = pvcs_of(live, set);
        check_not_leftover(plan, live, &pvcs)?;
        let current = live.objects.stateful_sets.iter().find(|live| live.name_any() == set.name_any());
        match grow_pvcs(client, plan, &pvcs, &size).await {
            Ok(()) => {}
            Err(error @ Error::VolumeRefused { .. }) => {
                retain_size(set, current);
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        }
        if let Some(current) = current
            && is_smaller(set_size(current), &size)
        {
            delete_set(client, plan, current).await?;
        }
    }
    Ok(refused)
}

async fn grow_pvcs(client: &Client, plan: &Plan, pvcs: &[&PersistentVolumeClaim], size: &Quantity) -> Result<()> {
    for pvc in pvcs {
        if is_smaller(pvc_size(pvc), size) {
            grow_pvc(client, plan, pvc, size).await?;
        }
    }
    Ok(())
}

/// Sets the desired size to the current one.
fn retain_size(set: &mut StatefulSet, current: Option<&StatefulSet>) {
    let Some(size) = current.and_then(set_size).cloned() else { return };
    let templates = set.spec.iter_mut().flat_map(|spec| spec.volume_claim_templates.iter_mut().flatten());
    let requests = templates.filter_map(|template| template.spec.as_mut()?.resources.as_mut()?.requests.as_mut());
    requests.for_each(|requests| {
        requests.insert("storage".to_owned(), size.clone());
    });
}

/// Returns the PVCs of the StatefulSet's pods, which are named `data-SET-N`.
fn pvcs_of<'a>(live: &'a Live, set: &StatefulSet) -> Vec<&'a PersistentVolumeClaim> {
    let prefix = format!("data-{}-", set.name_any());
    let of_set = |pvc: &&PersistentVolumeClaim| {
        pvc.name_any().strip_prefix(&prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    live.pvcs.iter().filter(of_set).collect()
}

/// Refuses a PVC that is being deleted, or whose owner no longer exists: Kubernetes will delete it, and
/// data written to it until then would be lost.
fn check_not_leftover(plan: &Plan, live: &Live, pvcs: &[&PersistentVolumeClaim]) -> Result<()> {
    let ours = |uid: &str| {
        uid == plan.owner.uid
            || live.objects.stateful_sets.iter().any(|set| set.metadata.uid.as_deref() == Some(uid))
            || live.pods.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid))
    };
    for pvc in pvcs {
        let mut owners = pvc.metadata.owner_references.iter().flatten();
        if pvc.metadata.deletion_timestamp.is_some() || owners.any(|owner| !ours(&owner.uid)) {
            return Err(Error::Leftover { kind: "PersistentVolumeClaim".to_owned(), name: pvc.name_any() });
        }
    }
    Ok(())
}

async fn grow_pvc(client: &Client, plan: &Plan, pvc: &PersistentVolumeClaim, size: &Quantity) -> Result<()> {
    let name = pvc.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &plan.names.namespace);
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {
            tracing::info!(pvc = name, size = size.0, "requested a larger volume");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Err(Error::VolumeRefused { pvc: name, size: size.0.clone(), message: status.message.clone() })
        }
        Err(error) => Err(Error::api(format!("grow PersistentVolumeClaim {name}"))(error)),
    }
}

/// Deletes the StatefulSet without its pods. Always returns [`Error::Leftover`]: the next reconcile,
/// after the deletion, creates the StatefulSet again, and it adopts the running pods.
async fn delete_set(client: &Client, plan: &Plan, set: &StatefulSet) -> Result<()> {
    let (name, kind) = (set.name_any(), "StatefulSet".to_owned());
    if set.metadata.deletion_timestamp.is_none() && !owned_by_another(&set.metadata, plan) {
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), &plan.names.namespace);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(Preconditions { uid: set.metadata.uid.clone(), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        tracing::info!(set = name, "its volumes grow: deleting the StatefulSet without its pods, to create it again");
        api.delete(&name, &params).await.map_err(Error::api(format!("delete StatefulSet {name}")))?;
    }
    Err(Error::Leftover { kind, name })
}

fn set_size(set: &StatefulSet) -> Option<&Quantity> {
    pvc_size(set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?)
}

fn pvc_size(pvc: &PersistentVolumeClaim) -> Option<&Quantity> {
    pvc.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn is_smaller(current: Option<&Quantity>, wanted: &Quantity) -> bool {
    match (current.map(quantity::milli), quantity::milli(wanted)) {
        (Some(Ok(current)), Ok(wanted)) => current < wanted,
        _ => false,
    }
}
