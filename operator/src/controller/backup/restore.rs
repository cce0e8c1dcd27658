//! Begins a restore: creates its Job once no aggregator and no backup runs. The Job is never applied again, because a
//! restore that has begun must not change.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::controller::build::backup::restore_job;
use crate::controller::build::names::{Component, Names, component_of};
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::Plan;

/// Creates the Job of the restore that the plan has, if it can begin.
///
/// # Errors
/// [`Error::Api`] if the API server refuses it.
pub async fn begin(client: &Client, plan: &Plan, live: &Live) -> Result<()> {
    let (Some(restore), Some(postgres)) = (&plan.restore, plan.postgres.managed()) else { return Ok(()) };
    let name = plan.names.restore_job(&restore.key);
    let exists = live.jobs.iter().any(|job| job.name_any() == name);
    if exists || restore.failed.is_some() || plan.hibernated || waits_for(&plan.names, live).is_some() {
        return Ok(());
    }
    tracing::info!(name, key = restore.key, "the restore begins: creating its Job");
    let api: Api<Job> = Api::namespaced(client.clone(), &plan.names.namespace);
    match api.create(&PostParams::default(), &restore_job(plan, postgres, restore)).await {
        Ok(_) => Ok(()),
        // It was created meanwhile.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::api(format!("create Job {name}"))(error)),
    }
}

/// Returns what must stop before a restore or an upgrade can begin.
pub fn waits_for(names: &Names, live: &Live) -> Option<String> {
    let set = names.of(Component::Aggregator);
    let wanted = live.objects.stateful_sets.iter().find(|live| live.name_any() == set);
    let wanted = wanted.and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(0);
    let is_aggregator = |pod: &&Pod| component_of(pod.labels()) == Some(Component::Aggregator.as_str());
    let aggregators = live.pods.iter().filter(is_aggregator).count();
    if wanted > 0 || aggregators > 0 {
        return Some(format!("{aggregators} aggregators to stop"));
    }
    let runs = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let busy = live.backup_pods.iter().find(runs)?;
    Some(format!("pod {} to end", busy.name_any()))
}
