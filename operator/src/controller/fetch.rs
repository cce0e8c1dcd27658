//! Third step: reads all other objects that belong to a resource. They are read from the API server and not
//! from a cache, because a status computed from old objects would be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};

use super::build::Objects;
use super::build::names::{Component, MANAGED_BY, MANAGER, Names, component_of, instance_of};
use super::cloud_native_pg::plan::secret_names;
use super::context::Context;
use super::data::Data;
use super::error::{Error, Result};
use super::optional::Optional;
use super::plan::names_of;
use super::reader::Reader;
use super::upgrade::measured::Measured;
use crate::crd::EventAggregator;

/// The objects that exist for a resource.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Objects of the kinds that the operator builds.
    pub objects: Objects,
    /// Secrets by name: those created for the resource, and those it refers to.
    pub secrets: BTreeMap<String, Secret>,
    /// The kinds, in the plural, that the cluster does not have.
    pub lacks: BTreeSet<String>,
    /// The PersistentVolumeClaims of its volumes.
    pub pvcs: Vec<PersistentVolumeClaim>,
    /// Its pods, except those of backups and restores.
    pub pods: Vec<Pod>,
    /// The Jobs of backups and restores.
    pub jobs: Vec<Job>,
    /// Their pods.
    pub backup_pods: Vec<Pod>,
    /// The reasons that running aggregators give for not being ready, each after the name of its pod.
    pub unready_reason: Option<String>,
    /// Names of the HorizontalPodAutoscalers that scale it although the spec asks the operator to do so.
    pub autoscalers: Vec<String>,
    /// Names of the HorizontalPodAutoscalers of others that scale the Deployment of its publishers.
    pub publisher_autoscalers: Vec<String>,
    /// The number of events that are not stored yet, as it was last observed.
    pub backlog: Option<i64>,
    /// What is known about the load, for an estimate.
    pub measured: Option<Measured>,
    /// When this was read.
    pub now: Timestamp,
}

/// Reads all objects that exist for `resource`. Those of `data` have been read already.
///
/// # Errors
/// [`Error::Api`] when the API server refuses a request or does not respond to it.
pub async fn fetch(context: &Context, resource: &EventAggregator, data: Data) -> Result<Live> {
    let client = &context.client;
    let names = names_of(resource);
    let reader = Reader::new(client, resource);
    let Data { secrets: made, stateful_sets, pvcs, clusters } = data;
    let made_by_others = secret_names(&names, &resource.spec);
    let references = resource.spec.secret_names().into_iter().chain(made_by_others.iter().map(String::as_str));
    let is_cluster = resource.spec.postgres.cloud_native_pg.is_some();
    let labels = context.defaults.secret_selector.as_deref();
    // All requests are sent at the same time, so that this takes as long as the slowest one and not as all together.
    let (referenced, objects, jobs, all_pods, all_autoscalers) = tokio::try_join!(
        try_join_all(references.map(|name| reader.referenced(name, labels))),
        built(&reader, &context.optional, is_cluster),
        reader.list(),
        reader.list::<Pod>(),
        autoscalers(client, &names),
    )?;
    let (own_autoscalers, all_autoscalers) = split(all_autoscalers, |autoscaler| is_ours(autoscaler, &names));
    let (backup_pods, pods) = split(all_pods, is_of_backup);
    let unready = unready_aggregator(&pods);
    let unready_reason = context.unready.note(&resource.uid().unwrap_or_default(), unready.as_deref());
    let unready_reason = unready.zip(unready_reason).map(|(pod, reason)| format!("{pod} reports: {reason}"));
    let referenced = referenced.into_iter().flatten().map(|secret| (secret.name_any(), secret));
    Ok(Live {
        secrets: made.into_iter().chain(referenced).collect(),
        objects: Objects { stateful_sets, clusters, autoscalers: own_autoscalers, ..objects },
        lacks: context.optional.lacking(),
        jobs,
        backup_pods,
        pvcs,
        unready_reason,
        pods,
        autoscalers: match resource.spec.aggregator.autoscaling {
            Some(_) => of_target(&all_autoscalers, &EventAggregator::kind(&()), &names.name),
            None => Vec::new(),
        },
        publisher_autoscalers: of_target(&all_autoscalers, "Deployment", &names.of(Component::Publisher)),
        backlog: resource.status.as_ref().and_then(|status| status.backlog),
        measured: context.measurements.get(&resource.uid().unwrap_or_default(), Instant::now()),
        now: Timestamp::now(),
    })
}

/// Returns the objects of the kinds that the operator builds, without the StatefulSets, the HorizontalPodAutoscalers and the
/// Cluster. Only a resource with a Cluster has a schedule of its backups.
async fn built(reader: &Reader<'_>, optional: &Optional, is_cluster: bool) -> Result<Objects> {
    let (
        service_accounts,
        config_maps,
        network_policies,
        services,
        disruption_budgets,
        deployments,
        ingresses,
        http_routes,
        pod_monitors,
        prometheus_rules,
        cron_jobs,
        scheduled_backups,
    ) = tokio::try_join!(
        reader.list(),
        reader.list(),
        reader.list(),
        reader.list(),
        reader.list(),
        reader.list(),
        reader.list(),
        optional.list(reader),
        optional.list(reader),
        optional.list(reader),
        reader.list(),
        async { if is_cluster { optional.list(reader).await } else { Ok(Vec::new()) } },
    )?;
    Ok(Objects {
        service_accounts,
        config_maps,
        network_policies,
        services,
        disruption_budgets,
        deployments,
        ingresses,
        http_routes,
        pod_monitors,
        prometheus_rules,
        cron_jobs,
        scheduled_backups,
        ..Objects::default()
    })
}

/// Returns what fits, and the rest.
fn split<T>(all: Vec<T>, fits: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
    all.into_iter().partition(fits)
}

/// Whether an autoscaler was made by the operator for this resource.
fn is_ours(autoscaler: &HorizontalPodAutoscaler, names: &Names) -> bool {
    autoscaler.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)
        && instance_of(autoscaler.labels()) == Some(names.name.as_str())
}

fn is_of_backup(pod: &Pod) -> bool {
    component_of(pod.labels()) == Some(Component::Backup.as_str())
}

/// Returns the name of an aggregator's pod that runs and is not ready.
fn unready_aggregator(pods: &[Pod]) -> Option<String> {
    let unready = pods.iter().filter(|pod| {
        let is_aggregator = component_of(pod.labels()) == Some(Component::Aggregator.as_str());
        let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
        let lives = pod.metadata.deletion_timestamp.is_none();
        is_aggregator && lives && containers.any(|container| runs(container) && !container.ready)
    });
    unready.map(|pod| pod.name_any()).min()
}

/// Returns all HorizontalPodAutoscalers in the namespace. They have labels of their own, if any.
async fn autoscalers(client: &Client, names: &Names) -> Result<Vec<HorizontalPodAutoscaler>> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &names.namespace);
    let all = api.list(&ListParams::default()).await.map_err(Error::api("list horizontalpodautoscalers"))?;
    Ok(all.items)
}

/// Returns the names of the autoscalers that scale an object.
fn of_target(autoscalers: &[HorizontalPodAutoscaler], kind: &str, name: &str) -> Vec<String> {
    let scales = |autoscaler: &&HorizontalPodAutoscaler| {
        let target = autoscaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
        target.is_some_and(|target| target.kind == kind && target.name == name)
    };
    autoscalers.iter().filter(scales).map(ResourceExt::name_any).collect()
}
