//! Growing volumes. A StatefulSet's claim templates cannot be changed: the claims are grown
//! themselves, and then the set is made anew around its running pods.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::apply::owned_by_another;
use super::build::Objects;
use super::build::names::MANAGER;
use super::error::{Error, Result};
use super::fetch::Live;
use super::plan::Plan;
use crate::quantity;

/// Grows what is smaller than desired, and refuses volumes that an earlier resource takes with it.
/// What cannot grow stays as it is in `desired` too, and is answered: all else can be done.
pub async fn grow(client: &Client, plan: &Plan, live: &Live, desired: &mut Objects) -> Result<Option<Error>> {
    let mut refused = None;
    for set in &mut desired.stateful_sets {
        let Some(size) = set_size(set).cloned() else { continue };
        let claims = claims_of(live, set);
        refuse_leftovers(plan, live, &claims)?;
        let current = live.objects.stateful_sets.iter().find(|live| live.name_any() == set.name_any());
        match grow_claims(client, plan, &claims, &size).await {
            Ok(()) => {}
            Err(error @ Error::VolumeRefused { .. }) => {
                keep_size(set, current);
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        }
        if let Some(current) = current
            && smaller(set_size(current), &size)
        {
            remove_set(client, plan, current).await?;
        }
    }
    Ok(refused)
}

async fn grow_claims(client: &Client, plan: &Plan, claims: &[&PersistentVolumeClaim], size: &Quantity) -> Result<()> {
    for claim in claims {
        if smaller(claim_size(claim), size) {
            grow_claim(client, plan, claim, size).await?;
        }
    }
    Ok(())
}

/// Desires the size that is there.
fn keep_size(set: &mut StatefulSet, current: Option<&StatefulSet>) {
    let Some(size) = current.and_then(set_size).cloned() else { return };
    let claims = set.spec.iter_mut().flat_map(|spec| spec.volume_claim_templates.iter_mut().flatten());
    let requests = claims.filter_map(|claim| claim.spec.as_mut()?.resources.as_mut()?.requests.as_mut());
    requests.for_each(|requests| {
        requests.insert("storage".to_owned(), size.clone());
    });
}

/// Claims of the set's pods: `data-SET-N`.
fn claims_of<'a>(live: &'a Live, set: &StatefulSet) -> Vec<&'a PersistentVolumeClaim> {
    let prefix = format!("data-{}-", set.name_any());
    let of_set = |claim: &&PersistentVolumeClaim| {
        claim.name_any().strip_prefix(&prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    live.claims.iter().filter(of_set).collect()
}

/// A claim that is being deleted, or goes with a set that is gone, would take new data with it.
fn refuse_leftovers(plan: &Plan, live: &Live, claims: &[&PersistentVolumeClaim]) -> Result<()> {
    let ours = |uid: &str| {
        uid == plan.owner.uid
            || live.objects.stateful_sets.iter().any(|set| set.metadata.uid.as_deref() == Some(uid))
            || live.pods.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid))
    };
    for claim in claims {
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if claim.metadata.deletion_timestamp.is_some() || owners.any(|owner| !ours(&owner.uid)) {
            return Err(Error::Leftover { kind: "PersistentVolumeClaim".to_owned(), name: claim.name_any() });
        }
    }
    Ok(())
}

async fn grow_claim(client: &Client, plan: &Plan, claim: &PersistentVolumeClaim, size: &Quantity) -> Result<()> {
    let (name, api) =
        (claim.name_any(), Api::<PersistentVolumeClaim>::namespaced(client.clone(), &plan.names.namespace));
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {
            tracing::info!(claim = name, size = size.0, "asked the volume to grow");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Err(Error::VolumeRefused { claim: name, size: size.0.clone(), message: status.message.clone() })
        }
        Err(error) => Err(Error::api(format!("grow the claim {name}"))(error)),
    }
}

/// Removes the set and leaves its pods. The next look, when it is gone, makes it anew; it takes
/// the pods over as they are.
async fn remove_set(client: &Client, plan: &Plan, set: &StatefulSet) -> Result<()> {
    let (name, kind) = (set.name_any(), "StatefulSet".to_owned());
    if set.metadata.deletion_timestamp.is_none() && !owned_by_another(&set.metadata, plan) {
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), &plan.names.namespace);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(Preconditions { uid: set.metadata.uid.clone(), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        tracing::info!(set = name, "its volumes grow: making it anew around its pods");
        api.delete(&name, &params).await.map_err(Error::api(format!("delete StatefulSet {name}")))?;
    }
    Err(Error::Leftover { kind, name })
}

fn set_size(set: &StatefulSet) -> Option<&Quantity> {
    claim_size(set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?)
}

fn claim_size(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn smaller(current: Option<&Quantity>, wanted: &Quantity) -> bool {
    match (current.map(quantity::milli), quantity::milli(wanted)) {
        (Some(Ok(current)), Ok(wanted)) => current < wanted,
        _ => false,
    }
}
