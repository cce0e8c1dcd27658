//! What an upgrade does beside the objects that are applied: it removes what is left of a failed attempt, creates the Job,
//! and decides that the new server serves.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::plan::Stage;
use super::servers;
use super::stage::{is_of, version_of};
use crate::controller::apply::Applied;
use crate::controller::build::names::{COMPLETE, Component, INCOMPLETE, MANAGER, VERSION, pvc_of};
use crate::controller::build::upgrade::{UPGRADE_KEY, job};
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::ownership::owned_by_another;
use crate::controller::plan::Plan;

/// Removes what attempts left that have ended: first their Jobs, so that none of them can seem to have filled a server
/// after an aggregator has stored something again, and then the volumes that nothing uses. Runs before anything is applied.
///
/// # Errors
/// [`Error::Api`]. Then no aggregator may start.
pub async fn withdraw(client: &Client, plan: &Plan, live: &Live) -> Result<()> {
    let current = plan.upgrade.as_ref().filter(|upgrade| upgrade.has_begun()).map(|upgrade| upgrade.key());
    let jobs: Api<Job> = Api::namespaced(client.clone(), &plan.names.namespace);
    for job in live.jobs.iter().filter(|job| job.annotations().contains_key(UPGRADE_KEY)) {
        let is_current = current.as_ref().is_some_and(|key| is_of(job, key));
        // The one that has filled the server that serves says what it did.
        let has_served =
            live.pvcs.iter().any(|pvc| pvc.annotations().get(COMPLETE) == job.annotations().get(UPGRADE_KEY));
        if !is_current && !has_served {
            delete(&jobs, job).await?;
        }
    }
    let pvcs: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &plan.names.namespace);
    let next = plan.next.as_ref().map(|next| pvc_of(&next.set));
    for pvc in live.pvcs.iter().filter(|pvc| is_unused(pvc, plan, live)) {
        let name = pvc.name_any();
        let is_incomplete = pvc.annotations().contains_key(INCOMPLETE) && next.as_ref() != Some(&name);
        let is_unwanted = !plan.previous.is_kept && plan.upgrade.is_none() && plan.previous.pvcs.contains(&name);
        if is_incomplete || is_unwanted && !pvc.annotations().contains_key(INCOMPLETE) {
            delete(&pvcs, pvc).await?;
        }
    }
    Ok(())
}

/// Whether no StatefulSet and no pod uses a volume of a PostgreSQL of this resource.
fn is_unused(pvc: &PersistentVolumeClaim, plan: &Plan, live: &Live) -> bool {
    let name = pvc.name_any();
    let uses = |set: &str| pvc_of(set) == name;
    let serves = plan.postgres.managed().is_some_and(|postgres| uses(&postgres.set));
    let is_of_set = live.objects.stateful_sets.iter().any(|set| uses(&set.name_any()));
    let is_of_pod = live.pods.iter().any(|pod| format!("data-{}", pod.name_any()) == name);
    servers::major_of(pvc, &plan.names).is_some()
        && !owned_by_another(&pvc.metadata, plan)
        && !(serves || is_of_set || is_of_pod)
}

/// Creates the Job as soon as no aggregator runs, and once it has ended well, marks the volume of the new server as
/// complete. Notes the major version on the volume of the server that serves.
///
/// # Errors
/// [`Error::Api`].
pub async fn advance(client: &Client, plan: &Plan, live: &Live, applied: &Applied) -> Result<()> {
    let pvcs: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &plan.names.namespace);
    if let Some(postgres) = plan.postgres.managed()
        && let Some(pvc) = live.pvcs.iter().find(|pvc| pvc.name_any() == pvc_of(&postgres.set))
        && !pvc.annotations().contains_key(VERSION)
        && live.objects.stateful_sets.iter().any(|set| set.name_any() == postgres.set && is_started(set))
    {
        annotate(&pvcs, pvc, &json!({ VERSION: postgres.version.to_string() })).await?;
    }
    let (Some(upgrade), Some(next)) = (&plan.upgrade, &plan.next) else { return Ok(()) };
    match &upgrade.stage {
        Stage::Ready => {
            let name = plan.names.of(Component::Aggregator);
            let find = |sets: &[StatefulSet]| sets.iter().find(|set| set.name_any() == name).map(version_of);
            let (now, before) = (find(&applied.objects.stateful_sets), find(&live.objects.stateful_sets));
            // What was read is what was applied: no aggregator can have been started meanwhile.
            let Some(version) = now.filter(|now| Some(now) == before.as_ref()) else { return Ok(()) };
            let job = job(plan, upgrade, next, &version);
            tracing::info!(name = job.name_any(), from = upgrade.from, to = upgrade.to, "the rows are copied now");
            let jobs: Api<Job> = Api::namespaced(client.clone(), &plan.names.namespace);
            match jobs.create(&PostParams::default(), &job).await {
                Ok(_) => Ok(()),
                // It was created meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(Error::api(format!("create Job {}", job.name_any()))(error)),
            }
        }
        Stage::Filled(_) => {
            let Some(pvc) = live.pvcs.iter().find(|pvc| pvc.name_any() == pvc_of(&next.set)) else { return Ok(()) };
            tracing::info!(pvc = pvc.name_any(), to = upgrade.to, "the new server serves from now on");
            let annotations = json!({ COMPLETE: upgrade.key(), INCOMPLETE: null, VERSION: upgrade.to.to_string() });
            annotate(&pvcs, pvc, &annotations).await
        }
        _ => Ok(()),
    }
}

fn is_started(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.ready_replicas.unwrap_or(0) > 0)
}

/// Changes annotations of a volume, if nobody has changed it since it was read.
async fn annotate(api: &Api<PersistentVolumeClaim>, pvc: &PersistentVolumeClaim, annotations: &Value) -> Result<()> {
    let name = pvc.name_any();
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let version = &pvc.metadata.resource_version;
    let patch = json!({"metadata": {"annotations": annotations, "resourceVersion": version}});
    let patched = api.patch(&name, &params, &Patch::Merge(&patch)).await;
    patched.map(|_| ()).map_err(Error::api(format!("annotate PersistentVolumeClaim {name}")))
}

async fn delete<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let (kind, name) = (K::kind(&()), object.name_any());
    if object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    tracing::info!(%kind, name, "it is left of an upgrade and nothing uses it: deleting it");
    let preconditions = Preconditions { uid: object.uid(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api.delete(&name, &params).await {
        Ok(_) => Ok(()),
        // It was deleted meanwhile, or is another one now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Error::api(format!("delete {kind} {name}"))(error)),
    }
}
