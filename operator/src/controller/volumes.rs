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

/// Requests the desired size of all volumes. The error of a volume that cannot have it is returned as
/// `Ok(Some(..))`, because everything else can be applied. In `desired`, the size in the template of an existing
/// StatefulSet becomes the current one.
///
/// # Errors
/// [`Error::Leftover`] when a PVC is being deleted or belongs to a StatefulSet that no longer exists, and
/// [`Error::Api`].
pub async fn grow(client: &Client, plan: &Plan, live: &Live, desired: &mut Objects) -> Result<Option<Error>> {
    let mut refused = None;
    for set in &mut desired.stateful_sets {
        let Some(size) = set_size(set).cloned() else { continue };
        let pvcs = pvcs_of(live, set);
        check_not_leftover(plan, live, &pvcs)?;
        retain_template(set, live);
        match resize_all(client, plan, &pvcs, &size).await {
            Ok(()) => {}
            Err(error @ Error::VolumeRefused { .. }) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

async fn resize_all(client: &Client, plan: &Plan, pvcs: &[&PersistentVolumeClaim], size: &Quantity) -> Result<()> {
    for pvc in pvcs {
        if must_resize(pvc, size) {
            resize(client, plan, pvc, size).await?;
        }
    }
    Ok(())
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
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Err(Error::VolumeRefused { pvc: name, size: size.0.clone(), message: status.message.clone() })
        }
        Err(error) => Err(Error::api(format!("resize PersistentVolumeClaim {name}"))(error)),
    }
}

fn set_size(set: &StatefulSet) -> Option<&Quantity> {
    requested(set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?)
}
