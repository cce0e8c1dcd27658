//! Triggers reconciles: by changes of a resource, of an object that belongs to it or of a Secret it refers
//! to, and by decisions of autoscaling.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, WatchStreamExt, controller, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::build::names::{instance_of, selector_of_all};
use super::context::Context;
use super::error::Error;
use super::reconcile::{after_failure, reconcile};
use crate::crd::EventAggregator;

type Guarded = DeserializeGuard<EventAggregator>;

/// A channel that triggers the reconcile of a resource.
pub type Wake = mpsc::Sender<ObjectRef<Guarded>>;

/// Reconciles the resources of one namespace, or of all namespaces, until `stop` is cancelled. `started`
/// receives the store of the resources.
pub async fn watch(
    context: Arc<Context>,
    namespace: Option<&str>,
    concurrency: u16,
    woken: mpsc::Receiver<ObjectRef<Guarded>>,
    started: impl FnOnce(Store<Guarded>),
    stop: CancellationToken,
) {
    let scope = Scope { client: context.client.clone(), namespace };
    let (store, writer) = reflector::store();
    // The operator writes the status itself, so a change of the status triggers no reconcile. Changes of
    // labels and annotations do not change the generation, so they are compared separately.
    let asked = predicates::generation.combine(predicates::labels).combine(predicates::annotations);
    let resources = watcher(scope.api::<Guarded>(), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(asked, Default::default());
    started(store.clone());

    let referring = store.clone();
    let mut woken = woken;
    let woken = futures::stream::poll_fn(move |task| woken.poll_recv(task));
    let controller = Controller::for_stream(resources, store)
        .with_config(Config::default().concurrency(concurrency).debounce(std::time::Duration::from_millis(300)))
        .reconcile_on(woken)
        .watches(scope.meta::<Secret>(), watcher::Config::default(), move |secret| users_of(&referring, &secret))
        .graceful_shutdown_on(stop.cancelled_owned());
    let controller = scope.labelled::<ServiceAccount>(controller);
    let controller = scope.labelled::<ConfigMap>(controller);
    let controller = scope.labelled::<NetworkPolicy>(controller);
    let controller = scope.labelled::<Service>(controller);
    let controller = scope.labelled::<PodDisruptionBudget>(controller);
    let controller = scope.labelled::<StatefulSet>(controller);
    let controller = scope.labelled::<Deployment>(controller);
    let controller = scope.labelled::<PersistentVolumeClaim>(controller);
    let controller = scope.labelled::<Pod>(controller);
    controller.run(reconcile, after_failure, context).for_each(|result| async move { log(result) }).await;
}

struct Scope<'a> {
    client: Client,
    namespace: Option<&'a str>,
}

impl Scope<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
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

    /// Reconciles a resource when an object with its label changes. The label is used, not the owner: pods
    /// and PersistentVolumeClaims have another owner, and retained objects have none.
    fn labelled<K>(&self, controller: Controller<Guarded>) -> Controller<Guarded>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + Send + 'static,
    {
        let labelled = watcher::Config::default().labels(&selector_of_all());
        controller.watches(self.meta::<K>(), labelled, |object| {
            let name = instance_of(object.labels()).map(str::to_owned);
            name.zip(object.namespace()).map(|(name, namespace)| ObjectRef::new(&name).within(&namespace))
        })
    }
}

/// Returns the resource that a Secret was created for, and the resources that refer to it.
fn users_of(resources: &Store<Guarded>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let (name, namespace) = (secret.name_any(), secret.namespace());
    let uses = |resource: &EventAggregator| {
        let externals = [&resource.spec.redis.external, &resource.spec.postgres.external];
        let made = instance_of(secret.labels()) == Some(resource.name_any().as_str());
        made || externals.into_iter().flatten().any(|external| external.secret_ref.name == name)
    };
    let users = resources
        .state()
        .into_iter()
        .filter(|resource| resource.namespace() == namespace && resource.0.as_ref().is_ok_and(uses));
    users.map(|resource| ObjectRef::from_obj(resource.as_ref())).collect()
}

fn log(result: Result<(ObjectRef<Guarded>, controller::Action), controller::Error<Error, watcher::Error>>) {
    match result {
        Ok((resource, _)) => tracing::debug!(%resource, "reconciled"),
        // `after_failure` has logged it.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        // The resource was deleted before it was reconciled.
        Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "a watch failed: trying again"),
    }
}
