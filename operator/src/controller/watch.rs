//! Triggers reconciles: by changes of a resource, of an object that belongs to it or of a Secret it refers
//! to, and by decisions of autoscaling.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{BoxStream, select_all};
use futures::{FutureExt, StreamExt, future, stream};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{Predicate, WatchStreamExt, applier, controller, predicates, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::build::cloud_native_pg::kinds::{Cluster, ScheduledBackup};
use super::build::http_route::HttpRoute;
use super::build::monitors::pod_monitor::PodMonitor;
use super::build::monitors::prometheus_rule::PrometheusRule;
use super::build::names::{instance_of, selector_of_all};
use super::changes::Key;
use super::cloud_native_pg::plan::secret_names;
use super::context::Context;
use super::debounce::debounced;
use super::error::{Error, Result};
use super::plan::names_of;
use super::reconcile::{after_failure, reconcile, unchanged};
use super::watches;
use crate::crd::EventAggregator;

type Guarded = DeserializeGuard<EventAggregator>;

/// How many objects a watch asks for at a time when it begins. A page is held in memory as a whole, and all watches
/// begin at the same time: with the default of 500, their pages need more memory than all that the operator keeps.
const PAGE: u32 = 100;
/// The annotation in which `kubectl apply` keeps a second copy of a resource.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A channel that triggers the reconcile of a resource.
pub type Wake = mpsc::Sender<ObjectRef<Guarded>>;

/// Bounds the reconciles that run at the same time in all namespaces together.
pub struct Slots {
    free: Semaphore,
    count: u16,
}

impl Slots {
    /// Creates the slots for `count` reconciles.
    pub fn new(count: u16) -> Self {
        Self { free: Semaphore::new(count.into()), count }
    }
}

/// Reconciles the resources of one namespace, or of all namespaces, until `stop` is cancelled. `started`
/// receives the store of the resources.
pub async fn watch(
    context: Arc<Context>,
    namespace: Option<&str>,
    slots: Arc<Slots>,
    woken: mpsc::Receiver<ObjectRef<Guarded>>,
    started: impl FnOnce(Store<Guarded>),
    stop: CancellationToken,
) {
    let scope = Scope { context: &context, namespace };
    let (store, writer) = reflector::store();
    let own = scope.own(writer);
    started(store.clone());

    let mut woken = woken;
    let triggers = vec![
        own,
        stream::poll_fn(move |task| woken.poll_recv(task)).boxed(),
        scope.secrets(store.clone()),
        scope.own_secrets(),
        scope.labelled::<ServiceAccount>(),
        scope.labelled::<ConfigMap>(),
        scope.labelled::<NetworkPolicy>(),
        scope.labelled::<Service>(),
        scope.labelled::<PodDisruptionBudget>(),
        scope.labelled::<StatefulSet>(),
        scope.labelled::<Deployment>(),
        scope.labelled::<HorizontalPodAutoscaler>(),
        scope.labelled::<Ingress>(),
        scope.optional::<Cluster>(store.clone()),
        scope.optional::<ScheduledBackup>(store.clone()),
        scope.optional::<HttpRoute>(store.clone()),
        scope.optional::<PodMonitor>(store.clone()),
        scope.optional::<PrometheusRule>(store.clone()),
        scope.labelled::<CronJob>(),
        scope.labelled::<Job>(),
        scope.labelled::<PersistentVolumeClaim>(),
        scope.labelled::<Pod>(),
    ];
    // Without triggers the controller finishes what is running, and ends.
    let noting = context.clone();
    let triggers = select_all(triggers).inspect(move |resource| noting.changes.note(&key_of(resource)));
    let triggers = debounced(triggers.take_until(stop.cancelled_owned().boxed()));
    // More could not run anyway, and what waits for its turn must not be out of date.
    let config = Config::default().concurrency(slots.count);
    let current = store.clone();
    let reconcile = move |resource: Arc<Guarded>, context| {
        in_turn(ObjectRef::from_obj(resource.as_ref()), current.clone(), slots.clone(), context).boxed()
    };
    applier(reconcile, after_failure, context.clone(), store, triggers.map(Ok::<_, Infallible>), config)
        .for_each(|result| async move { log(result) })
        .await;
}

/// Reconciles a resource when it is its turn.
async fn in_turn(
    resource: ObjectRef<Guarded>,
    store: Store<Guarded>,
    slots: Arc<Slots>,
    context: Arc<Context>,
) -> Result<Action> {
    let Ok(_slot) = slots.free.acquire().await else { return Ok(Action::await_change()) };
    // It may have changed meanwhile, or have been deleted.
    let Some(resource) = store.get(&resource) else { return Ok(Action::await_change()) };
    let key = key_of(&ObjectRef::from_obj(resource.as_ref()));
    if context.changes.is_settled(&key, Instant::now()) {
        return Ok(unchanged(&context));
    }
    let _running = context.progress.begin();
    let _changes = context.changes.begin(key);
    reconcile(resource, context.clone()).await
}

/// Returns the key of a resource among the changes.
fn key_of(resource: &ObjectRef<Guarded>) -> Key {
    (resource.namespace.clone().unwrap_or_default(), resource.name.clone())
}

/// The watches of one namespace, or of all namespaces. Each waits on its own after a failure, so that one that
/// always fails does not delay the others.
struct Scope<'a> {
    context: &'a Arc<Context>,
    namespace: Option<&'a str>,
}

impl Scope<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.context.client.clone(), namespace),
            None => Api::all(self.context.client.clone()),
        }
    }

    /// The metadata alone. It changes with every change, needs little memory, and can be read even when
    /// the rest of the object cannot be.
    fn meta<K>(&self) -> Api<PartialObjectMeta<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.api()
    }

    fn tracker<K: Resource<DynamicType = ()>>(&self) -> Tracker {
        let watch = (K::plural(&()).into_owned(), self.namespace.map(str::to_owned));
        Tracker { context: self.context.clone(), watch }
    }

    /// Reconciles a resource when it changes, and keeps all resources in a store.
    fn own(&self, writer: reflector::store::Writer<Guarded>) -> BoxStream<'static, ObjectRef<Guarded>> {
        // The operator writes the status itself, so a change of the status triggers no reconcile. Changes of
        // labels and annotations do not change the generation, so they are compared separately.
        let asked = predicates::generation.combine(predicates::labels).combine(predicates::annotations);
        let tracker = self.tracker::<EventAggregator>();
        watcher(self.api::<Guarded>(), paged())
            .default_backoff()
            .inspect(move |event| tracker.note(event))
            .modify(strip)
            .reflect(writer)
            .applied_objects()
            .predicate_filter(asked, Default::default())
            .filter_map(|resource| future::ready(resource.ok().map(|resource| ObjectRef::from_obj(&resource))))
            .boxed()
    }

    /// Reconciles the resources that use a Secret when it changes.
    fn secrets(&self, resources: Store<Guarded>) -> BoxStream<'static, ObjectRef<Guarded>> {
        let mut tracker = self.tracker::<Secret>();
        let (labels, kind) = (self.context.defaults.secret_selector.as_deref(), &mut tracker.watch.0);
        let config = match labels {
            Some(labels) => {
                kind.push_str(" with the labels ");
                kind.push_str(labels);
                paged().labels(labels)
            }
            None => paged(),
        };
        watcher(self.meta::<Secret>(), config)
            .default_backoff()
            .inspect(move |event| tracker.note(event))
            .touched_objects()
            .filter_map(|secret| future::ready(secret.ok()))
            .flat_map(move |secret| stream::iter(users_of(&resources, &secret)))
            .boxed()
    }

    /// Reconciles a resource when a Secret that was created for it changes, unless [`Self::secrets`] tells of all.
    fn own_secrets(&self) -> BoxStream<'static, ObjectRef<Guarded>> {
        match self.context.defaults.secret_selector {
            Some(_) => self.labelled::<Secret>(),
            None => stream::pending().boxed(),
        }
    }

    /// Reconciles a resource when an object with its label changes. The label is used, not the owner: pods
    /// and PersistentVolumeClaims have another owner, and retained objects have none.
    fn labelled<K>(&self) -> BoxStream<'static, ObjectRef<Guarded>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + Send + 'static,
    {
        let tracker = self.tracker::<K>();
        watcher(self.meta::<K>(), paged().labels(&selector_of_all()))
            .default_backoff()
            .inspect(move |event| tracker.note(event))
            .touched_objects()
            .filter_map(|object| future::ready(object.ok().and_then(|object| resource_of(&object))))
            .boxed()
    }

    /// Does the same for a kind that the cluster may lack, and reconciles all resources when it has it.
    fn optional<K>(&self, resources: Store<Guarded>) -> BoxStream<'static, ObjectRef<Guarded>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + Send + 'static,
    {
        let (tracker, context) = (self.tracker::<K>(), self.context.clone());
        watcher(self.meta::<K>(), paged().labels(&selector_of_all()))
            .default_backoff()
            .inspect(move |event| tracker.note(event))
            .flat_map(move |event| {
                let touched: Vec<_> = match event {
                    Ok(Event::InitDone) if context.optional.has_appeared(&K::plural(&())) => {
                        resources.state().iter().map(|resource| ObjectRef::from_obj(resource.as_ref())).collect()
                    }
                    Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                        resource_of(&object).into_iter().collect()
                    }
                    _ => Vec::new(),
                };
                stream::iter(touched)
            })
            .boxed()
    }
}

/// Returns how a watch lists what there is when it begins.
fn paged() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Removes what nothing reads from a resource that is kept. It can be larger than the rest.
fn strip(resource: &mut Guarded) {
    resource.managed_fields_mut().clear();
    if resource.annotations().contains_key(LAST_APPLIED) {
        resource.annotations_mut().remove(LAST_APPLIED);
    }
}

/// Returns the resource to which an object belongs.
fn resource_of<K>(object: &PartialObjectMeta<K>) -> Option<ObjectRef<Guarded>>
where
    K: Resource<DynamicType = ()>,
{
    let name = instance_of(object.labels())?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// Records whether a watch works, and logs each failure.
struct Tracker {
    context: Arc<Context>,
    watch: watches::Watch,
}

impl Tracker {
    fn note<T>(&self, event: &watcher::Result<Event<T>>) {
        match event {
            // The watcher says that it begins. It has no response yet. A kind that the cluster lacks has no objects that
            // could have changed, and its watch begins again and again.
            Ok(Event::Init) if self.context.optional.lacks(&self.watch.0) => {}
            Ok(Event::Init) => self.context.changes.note_all(),
            Ok(_) => self.context.watches.worked(&self.watch),
            Err(error) if self.context.optional.is_lacking(&self.watch.0, error) => {
                tracing::debug!(kind = self.watch.0, "the cluster does not have this kind, trying again");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot watch {}, trying again", watches::say(&self.watch));
                self.context.watches.failed(&self.watch, error.to_string(), Instant::now());
            }
        }
    }
}

/// Returns the resource that a Secret was created for, and the resources that refer to it.
fn users_of(resources: &Store<Guarded>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let (name, namespace) = (secret.name_any(), secret.namespace());
    let uses = |resource: &EventAggregator| {
        let made = instance_of(secret.labels()) == Some(resource.name_any().as_str());
        made || resource.spec.secret_names().contains(name.as_str())
            || secret_names(&names_of(resource), &resource.spec).contains(&name)
    };
    let users = resources
        .state()
        .into_iter()
        .filter(|resource| resource.namespace() == namespace && resource.0.as_ref().is_ok_and(uses));
    users.map(|resource| ObjectRef::from_obj(resource.as_ref())).collect()
}

fn log(result: Result<(ObjectRef<Guarded>, controller::Action), controller::Error<Error, Infallible>>) {
    match result {
        Ok((resource, _)) => tracing::debug!(%resource, "reconciled"),
        // `after_failure` has logged it.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        // The resource was deleted before it was reconciled.
        Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "cannot reconcile"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nothing_reads_of_a_resource_is_not_kept() {
        let all = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator",
            "metadata": {
                "name": "ledger", "annotations": { LAST_APPLIED: "{}", "team": "accounts" },
                "managedFields": [{ "manager": "kubectl", "operation": "Update", "fieldsV1": { "f:spec": {} } }]
            },
            "spec": {}
        });
        let mut resource: Guarded = serde_json::from_value(all).unwrap();
        strip(&mut resource);
        assert_eq!(resource.managed_fields(), []);
        let kept: Vec<_> = resource.annotations().keys().collect();
        assert_eq!(kept, ["team"], "a change of another annotation triggers a reconcile");
    }

    #[test]
    fn the_pages_of_a_watch_are_small() {
        assert!(paged().page_size < watcher::Config::default().page_size);
    }
}
