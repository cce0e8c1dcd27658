//! Seventh step: brings the cluster into the desired state. Uses server-side apply with one field manager,
//! only for objects that have drifted, and deletes objects of the resource that are no longer desired.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::build::Objects;
use super::build::names::MANAGER;
use super::drift::has_drifted;
use super::error::{Error, Result};
use super::fetch::Live;
use super::field_managers::{has_update_of_ours, without_updates_of_ours};
use super::ownership::{owned_by_another, owned_by_us};
use super::plan::Plan;
use super::server_restarts::ServerRestarts;
use super::upgrade::freeze::frozen;
use super::{additions, hibernation, hold_servers, order, volumes};

/// Annotation with the hash of the desired object.
const DESIRED: &str = "sluice.dev/desired";

/// Objects as the API server has stored them. The status of a successful reconcile can only be computed
/// from this type, so that it cannot report what was merely intended.
#[derive(Debug)]
pub struct Applied {
    /// All objects of the resource.
    pub objects: Objects,
    /// Whether the aggregators still have their newer image because publishers go back first.
    pub aggregator_held: bool,
    /// Whether the publishers still have their old image because aggregators are being replaced.
    pub publisher_held: bool,
    /// The resource whose servers restart, while those of this one wait for their turn.
    pub waits_for: Option<String>,
    /// The error of a volume that cannot grow. Its size stays as it is.
    pub volume_refused: Option<Error>,
}

/// Brings all objects into the `desired` state. An object that cannot be applied does not hinder the others, except
/// that no StatefulSet or Deployment is created then: its pods might need the object, such as a NetworkPolicy.
/// `asked_for` says whether the user has changed the resource since it was last looked at.
///
/// # Errors
/// [`Error::NameTaken`], [`Error::Leftover`] or [`Error::Api`] for the first object that cannot be applied.
pub async fn apply(
    client: &Client,
    plan: &Plan,
    live: &Live,
    mut desired: Objects,
    (restarts, asked_for): (&ServerRestarts, bool),
) -> Result<Applied> {
    let volumes = volumes::grow(client, plan, live, &mut desired).await?;
    let aggregator_held = order::hold_aggregators(plan, live, &mut desired, Timestamp::now());
    hibernation::stop(plan, live, &mut desired);
    let held = hold_servers::hold(restarts, plan, live, &desired, asked_for, must_be_applied);
    let (held, waits_for) = (held.sets, held.waits_for);
    let mut applier =
        Applier { client, plan, blocked: volumes.blocked, held, frozen: frozen(plan, live), failed: volumes.failed };
    let mut objects = Objects {
        service_accounts: applier.all(&live.objects.service_accounts, desired.service_accounts).await?,
        config_maps: applier.all(&live.objects.config_maps, desired.config_maps).await?,
        network_policies: applier.all(&live.objects.network_policies, desired.network_policies).await?,
        services: applier.all(&live.objects.services, desired.services).await?,
        disruption_budgets: applier.all(&live.objects.disruption_budgets, desired.disruption_budgets).await?,
        clusters: Vec::new(),
        scheduled_backups: Vec::new(),
        stateful_sets: Vec::new(),
        deployments: Vec::new(),
        autoscalers: Vec::new(),
        ingresses: applier.all(&live.objects.ingresses, desired.ingresses).await?,
        http_routes: applier.all(&live.objects.http_routes, desired.http_routes).await?,
        pod_monitors: Vec::new(),
        prometheus_rules: Vec::new(),
        cron_jobs: applier.all(&live.objects.cron_jobs, desired.cron_jobs).await?,
    };
    let clusters = applier.workloads(&live.objects.clusters, desired.clusters);
    objects.clusters = applier.all(&live.objects.clusters, clusters).await?;
    objects.scheduled_backups = applier.all(&live.objects.scheduled_backups, desired.scheduled_backups).await?;
    let sets = applier.workloads(&live.objects.stateful_sets, desired.stateful_sets);
    objects.stateful_sets = applier.all(&live.objects.stateful_sets, sets).await?;
    let publisher_held = order::hold_publishers(plan, live, &objects.stateful_sets, &mut desired.deployments);
    let deployments = applier.workloads(&live.objects.deployments, desired.deployments);
    objects.deployments = applier.all(&live.objects.deployments, deployments).await?;
    objects.autoscalers = applier.all(&live.objects.autoscalers, desired.autoscalers).await?;
    objects.pod_monitors = applier.all(&live.objects.pod_monitors, desired.pod_monitors).await?;
    objects.prometheus_rules = applier.all(&live.objects.prometheus_rules, desired.prometheus_rules).await?;
    match applier.failed {
        Some(error) => Err(error),
        None => {
            let volume_refused = volumes.refused;
            Ok(Applied { objects, aggregator_held, publisher_held, waits_for, volume_refused })
        }
    }
}

struct Applier<'a> {
    client: &'a Client,
    plan: &'a Plan,
    /// Names of the StatefulSets that must stay as they are.
    blocked: Vec<String>,
    /// Names of the StatefulSets that stay as they are for now, and count as applied.
    held: Vec<String>,
    /// Names of the StatefulSets and ConfigMaps that an upgrade of PostgreSQL leaves as they are.
    frozen: Vec<String>,
    /// The first error.
    failed: Option<Error>,
}

impl Applier<'_> {
    /// Returns the workloads that may be applied: all, or after an error those that exist.
    fn workloads<K: ResourceExt>(&self, live: &[K], mut desired: Vec<K>) -> Vec<K> {
        let exists = |workload: &K| live.iter().any(|live| live.name_any() == workload.name_any());
        desired.retain(|workload| self.failed.is_none() || exists(workload));
        desired
    }

    /// Notes an error that is about one object. Any other one is returned, and ends the reconcile.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.is_of_one_object() => {
                tracing::debug!(%error, "an object cannot be applied: going on with the others");
                self.failed.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn all<K>(&mut self, live: &[K], desired: Vec<K>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.plan.names.namespace);
        let mut applied = Vec::with_capacity(desired.len());
        let of_sets = |names: &[String]| if K::kind(&()) == "StatefulSet" { names.to_vec() } else { Vec::new() };
        let (blocked, mut stay) = (of_sets(&self.blocked), of_sets(&self.held));
        if matches!(K::kind(&()).as_ref(), "StatefulSet" | "ConfigMap") {
            stay.extend(self.frozen.iter().cloned());
        }
        for object in desired.iter().filter(|object| !blocked.contains(&object.name_any())) {
            let name = object.name_any();
            let existing = live.iter().find(|live| stay.contains(&name) && live.name_any() == name);
            if let Some(live) = existing {
                applied.push(live.clone());
                continue;
            }
            let result = self.one(&api, live, object).await;
            applied.extend(self.note(result)?);
        }
        for orphan in live.iter().filter(|live| desired.iter().all(|wanted| wanted.name_any() != live.name_any())) {
            let result = self.remove(&api, orphan).await;
            self.note(result)?;
        }
        Ok(applied)
    }

    async fn one<K>(&self, api: &Api<K>, live: &[K], desired: &K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let (kind, name) = (K::kind(&()), desired.name_any());
        let desired = stamped(desired)?;
        let exists = live.iter().any(|live| live.name_any() == name);
        match live.iter().find(|live| live.name_any() == name) {
            Some(live) => {
                if live.meta().deletion_timestamp.is_some() || owned_by_another(live.meta(), self.plan) {
                    return Err(Error::Leftover { kind: kind.into_owned(), name });
                }
                let current = to_value(live)?;
                let has_additions = additions::exist(&desired, &current);
                if !has_additions && !has_drifted(&desired, &current) && !has_update_of_ours(live.meta()) {
                    return Ok(live.clone());
                }
                tracing::info!(%kind, name, has_additions, "the object has drifted: applying it");
                if has_additions {
                    let patch = Patch::Strategic(additions::removal(&desired, &current));
                    let removed = api.patch(&name, &update_params(), &patch).await;
                    removed.map_err(Error::api(format!("remove what others added to {kind} {name}")))?;
                }
            }
            None => {
                // An object without our labels was not listed. It is somebody else's, unless this resource
                // is its owner.
                let found = api.get_metadata_opt(&name).await.map_err(Error::api(format!("get {kind} {name}")))?;
                if found.is_some_and(|found| !owned_by_us(&found.metadata, self.plan)) {
                    return Err(Error::NameTaken { kind: kind.into_owned(), name });
                }
                tracing::info!(%kind, name, "the object does not exist: applying it");
            }
        }
        metrics::counter!(crate::metrics::APPLIED.name, "kind" => kind.clone().into_owned()).increment(1);
        let params = PatchParams::apply(MANAGER).force();
        let applied = match api.patch(&name, &params, &Patch::Apply(&desired)).await {
            Err(kube::Error::Api(status)) if status.code == 422 && exists && desired["spec"].is_object() => {
                self.replace_spec(api, &name, &desired).await?;
                api.patch(&name, &params, &Patch::Apply(&desired)).await
            }
            result => result,
        };
        let applied = applied.map_err(Error::api(format!("apply {kind} {name}")))?;
        self.leave_to_apply(api, applied).await
    }

    /// Removes our entry of other writes than applies, so that applies alone decide which fields are ours.
    async fn leave_to_apply<K>(&self, api: &Api<K>, applied: K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        if !has_update_of_ours(applied.meta()) {
            return Ok(applied);
        }
        let name = applied.name_any();
        let patch = Patch::Merge(without_updates_of_ours(applied.meta()));
        match api.patch(&name, &update_params(), &patch).await {
            Ok(object) => Ok(object),
            // The object was written meanwhile. The next reconcile finds the entry again.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(applied),
            Err(error) => Err(Error::api(format!("update the field managers of {} {name}", K::kind(&())))(error)),
        }
    }

    /// Replaces the fields of the spec, lists as a whole. Server-side apply leaves list items of other
    /// managers beside ours, and the API server can refuse the result: a Service whose port somebody
    /// changed would have two ports with the same name.
    async fn replace_spec<K>(&self, api: &Api<K>, name: &str, desired: &serde_json::Value) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let patch = Patch::Merge(json!({ "spec": desired["spec"] }));
        let replaced = api.patch(name, &update_params(), &patch).await;
        replaced.map(|_| ()).map_err(Error::api(format!("replace the spec of {} {name}", K::kind(&()))))
    }

    /// Deletes an object that has our labels, if this resource is its owner.
    async fn remove<K>(&self, api: &Api<K>, orphan: &K) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let (kind, name, meta) = (K::kind(&()), orphan.name_any(), orphan.meta());
        if !owned_by_us(meta, self.plan) || meta.deletion_timestamp.is_some() {
            return Ok(());
        }
        tracing::info!(%kind, name, "the object is no longer desired: deleting it");
        let preconditions = Preconditions { uid: meta.uid.clone(), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match api.delete(&name, &params).await {
            Ok(_) => Ok(()),
            // It was deleted meanwhile, or deleted and created again by somebody else.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(Error::api(format!("delete {kind} {name}"))(error)),
        }
    }
}

/// Whether an existing StatefulSet is to be changed. One that cannot be compared is applied, which reports why.
fn must_be_applied(desired: &StatefulSet, live: &StatefulSet) -> bool {
    match (stamped(desired), to_value(live)) {
        (Ok(desired), Ok(live)) => additions::exist(&desired, &live) || has_drifted(&desired, &live),
        _ => true,
    }
}

/// Returns the parameters of a write that is not an apply.
fn update_params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn to_value<K: Serialize>(object: &K) -> Result<serde_json::Value> {
    serde_json::to_value(object).map_err(|error| Error::Unparsable(error.to_string()))
}

/// Returns the object with its own hash as an annotation.
fn stamped<K: Serialize>(object: &K) -> Result<serde_json::Value> {
    let mut value = to_value(object)?;
    let hash: String = blake3::hash(value.to_string().as_bytes()).to_hex().chars().take(16).collect();
    value["metadata"]["annotations"][DESIRED] = hash.into();
    Ok(value)
}
