//! Grows volumes by their PersistentVolumeClaims (PVCs). The volumeClaimTemplates of a StatefulSet are immutable, so
//! they stay as they are. Kubernetes uses them only for a PVC that does not exist, and such a PVC grows like all
//! others once it exists.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::build::Objects;
use super::build::names::MANAGER;
use super::capacity::{is_smaller, provided, requested};
use super::error::{Error, Result};
use super::fetch::Live;
use super::plan::Plan;
use crate::quantity;

/// What the volumes of the StatefulSets are like.
#[derive(Debug, Default)]
pub struct Volumes {
    /// The error of a volume that cannot have the desired size. Everything else can be applied.
    pub refused: Option<Error>,
    /// The first other error.
    pub failed: Option<Error>,
    /// Names of the StatefulSets that must not be applied, because they would use a PVC that is going to be deleted.
    pub blocked: Vec<String>,
}

/// Requests the desired size of all volumes. In `desired`, the size in the template of an existing StatefulSet becomes
/// the current one.
///
/// # Errors
/// An [`Error::Api`] that is not about one object. Other errors are in the result, because they do not hinder the
/// other volumes.
pub async fn grow(client: &Client, plan: &Plan, live: &Live, desired: &mut Objects) -> Result<Volumes> {
    let mut volumes = Volumes::default();
    for set in &mut desired.stateful_sets {
        let Some(size) = set_size(set).cloned() else { continue };
        let pvcs = pvcs_of(live, set);
        retain_template(set, live);
        if let Err(error) = check_not_leftover(plan, live, &pvcs) {
            volumes.blocked.push(set.name_any());
            volumes.failed.get_or_insert(error);
            continue;
        }
        for pvc in pvcs.into_iter().filter(|pvc| must_resize(pvc, &size)) {
            match resize(client, plan, pvc, &size).await {
                Ok(()) => {}
                Err(error @ Error::VolumeRefused { .. }) => {
                    volumes.refused.get_or_insert(error);
                }
                Err(error) if error.is_of_one_object() => {
                    volumes.failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(volumes)
}

/// Whether a PVC must request another size: a larger one, or a smaller one if the volume has not grown to the
/// requested one. Kubernetes then gives up the former growth, and tries this one.
fn must_resize(pvc: &PersistentVolumeClaim, size: &Quantity) -> bool {
    let Some(requested) = requested(pvc) else { return false };
    let has_room = || provided(pvc).is_some_and(|provided| is_smaller(provided, size));
    is_smaller(requested, size) || is_smaller(size, requested) && has_room()
}

/// Sets the size in the template to that of the existing StatefulSet, where they differ.
fn retain_template(set: &mut StatefulSet, live: &Live) {
    let current = live.objects.stateful_sets.iter().find(|live| live.name_any() == set.name_any());
    let Some(size) = current.and_then(set_size).cloned() else { return };
    let templates = set.spec.iter_mut().flat_map(|spec| spec.volume_claim_templates.iter_mut().flatten());
    let requests = templates.filter_map(|template| template.spec.as_mut()?.resources.as_mut()?.requests.as_mut());
    for requests in requests {
        // The API server may have stored the same size in another form. That is no difference.
        if requests.get("storage").is_none_or(|desired| !quantity::same(&desired.0, &size.0)) {
            requests.insert("storage".to_owned(), size.clone());
        }
    }
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

async fn resize(client: &Client, plan: &Plan, pvc: &PersistentVolumeClaim, size: &Quantity) -> Result<()> {
    let name = pvc.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &plan.names.namespace);
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {
            tracing::info!(pvc = name, size = size.0, "requested another size of a volume");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) && !lacks_permission(&status.message) => {
            Err(Error::VolumeRefused { pvc: name, size: size.0.clone(), message: status.message.clone() })
        }
        Err(error) => Err(Error::api(format!("resize PersistentVolumeClaim {name}"))(error)),
    }
}

/// Whether the operator may not patch PVCs at all. That is refused with 403 too, but with a message that the API server
/// words in the same way for all kinds: `User "x" cannot patch resource "persistentvolumeclaims" in API group "" …`.
fn lacks_permission(message: &str) -> bool {
    message.contains("cannot patch resource")
}

fn set_size(set: &StatefulSet) -> Option<&Quantity> {
    requested(set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?)
}
