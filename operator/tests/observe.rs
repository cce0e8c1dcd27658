//! Observers: each one reads the programs of one namespace's resources, and all of them share the decisions of
//! autoscaling.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use sluice_operator::controller::Context;
use sluice_operator::crd::{Autoscaling, EventAggregator, EventAggregatorStatus};
use sluice_operator::observe::Observer;
use sluice_operator::program_client::Programs;
use support::fake::Api;
use support::{defaults, fixture};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

type Guarded = DeserializeGuard<EventAggregator>;

const SCALING: Autoscaling =
    Autoscaling { min_replicas: 1, max_replicas: 5, target_backlog: 100, stabilization_seconds: 60 };
const INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

fn context() -> Arc<Context> {
    let (client, programs) = (Api::default().client(), Programs::new().unwrap());
    Arc::new(Context::new(client, programs, defaults(), Duration::from_secs(600), "operator-0".into()))
}

/// Returns a resource that asks for autoscaling and runs `desired` aggregators.
fn scaled(namespace: &str, desired: i32) -> EventAggregator {
    let mut resource = fixture("ledger.yaml");
    resource.metadata.namespace = Some(namespace.into());
    resource.metadata.uid = Some(format!("uid-in-{namespace}"));
    resource.spec.aggregator.autoscaling = Some(SCALING);
    resource.status = Some(EventAggregatorStatus { desired_replicas: Some(desired), ..Default::default() });
    resource
}

/// Returns the store of a namespace, and its writer.
fn store(resources: impl IntoIterator<Item = EventAggregator>) -> (Store<Guarded>, reflector::store::Writer<Guarded>) {
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for resource in resources {
        writer.apply_watcher_event(&Event::InitApply(DeserializeGuard(Ok(resource))));
    }
    writer.apply_watcher_event(&Event::InitDone);
    (store, writer)
}

/// Starts an observer of a namespace. It ends with `stop`.
fn observe(
    context: &Arc<Context>,
    store: Store<Guarded>,
    capacity: usize,
    stop: &CancellationToken,
) -> (mpsc::Sender<ObjectRef<Guarded>>, mpsc::Receiver<ObjectRef<Guarded>>) {
    let (wake, woken) = mpsc::channel(capacity);
    let (observer, sender, stop) = (Observer::new(context.clone()), wake.clone(), stop.clone());
    tokio::spawn(async move { observer.run(store, sender, INTERVAL, stop).await });
    (wake, woken)
}

#[tokio::test]
async fn a_namespace_does_not_forget_the_decisions_of_another() {
    let (context, stop) = (context(), CancellationToken::new());
    let _ending = stop.clone().drop_guard();
    let (resources, _writer) = store([scaled("accounts", 9)]);
    let (empty, _other) = store([]);
    let (_wake, mut woken) = observe(&context, resources, 8, &stop);
    let _others = observe(&context, empty, 8, &stop);
    tokio::time::timeout(PATIENCE, woken.recv()).await.unwrap().unwrap();
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        assert_eq!(context.decisions.get("uid-in-accounts"), Some(5));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_decisions_of_a_resource_that_left_are_forgotten() {
    let (context, stop) = (context(), CancellationToken::new());
    let _ending = stop.clone().drop_guard();
    let resource = scaled("accounts", 9);
    let (resources, mut writer) = store([resource.clone()]);
    let (_wake, mut woken) = observe(&context, resources, 8, &stop);
    tokio::time::timeout(PATIENCE, woken.recv()).await.unwrap().unwrap();
    writer.apply_watcher_event(&Event::Delete(DeserializeGuard(Ok(resource))));
    let forgotten = async {
        while context.decisions.get("uid-in-accounts").is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
}

#[tokio::test]
async fn a_decision_wakes_its_resource_although_the_queue_was_full() {
    let (context, stop) = (context(), CancellationToken::new());
    let _ending = stop.clone().drop_guard();
    let (resources, _writer) = store([scaled("accounts", 9)]);
    let (wake, mut woken) = observe(&context, resources, 1, &stop);
    // Nobody reads the queue until a decision has been made.
    let _ = wake.try_send(ObjectRef::new("other").within("accounts"));
    let decided = async {
        while context.decisions.get("uid-in-accounts").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, decided).await.unwrap();
    tokio::time::sleep(INTERVAL * 5).await;
    let names = async { [woken.recv().await.unwrap().name, woken.recv().await.unwrap().name] };
    let names = tokio::time::timeout(PATIENCE, names).await.expect("the decision wakes nobody");
    assert_eq!(names, ["other", "ledger"]);
}
