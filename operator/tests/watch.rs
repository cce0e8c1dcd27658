//! The watches that trigger reconciles, against the fake API server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_operator::controller::{self, Context, Slots};
use sluice_operator::program_client::Programs;
use support::fake::Api;
use support::trial::{DEPLOYMENT, finish};
use support::{defaults, fixture};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const RESOURCE: &str = "/apis/sluice.dev/v1alpha1/namespaces/accounts/eventaggregators/ledger";
const SERVICE: &str = "/api/v1/namespaces/accounts/services/ledger-redis";
const PATIENCE: Duration = Duration::from_secs(10);

/// The watches of the namespace `accounts`, in which the resource `ledger` exists.
struct Trial {
    api: Api,
    context: Arc<Context>,
}

impl Trial {
    fn new() -> Self {
        Self::resyncing(Duration::from_secs(600))
    }

    /// Reconciles at this interval although nothing is known to have changed.
    fn resyncing(resync: Duration) -> Self {
        let api = Api::default();
        api.put(RESOURCE, serde_json::to_value(fixture("ledger.yaml")).unwrap());
        let (client, programs) = (api.client(), Programs::new().unwrap());
        let context = Context::new(client, programs, defaults(), resync, "operator-0".into());
        Self { api, context: Arc::new(context) }
    }

    /// Watches as long as `test` runs.
    async fn watching(&self, test: impl Future<Output = ()>) {
        let slots = Arc::new(Slots::new(4));
        tokio::select! {
            () = self.watch("accounts", &slots) => {}
            () = test => {}
        }
    }

    /// Watches a namespace for ever.
    async fn watch(&self, namespace: &str, slots: &Arc<Slots>) {
        let (_wake, woken) = mpsc::channel(8);
        let stop = CancellationToken::new();
        controller::watch(self.context.clone(), Some(namespace), slots.clone(), woken, |_| {}, stop).await;
    }

    /// Waits for a call that begins with this text, and returns how long it took.
    async fn call(&self, call: &str) -> Duration {
        let began = Instant::now();
        while !self.api.calls().iter().any(|made| made.starts_with(call)) {
            assert!(began.elapsed() < PATIENCE, "{call} is not called");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    /// Waits until the resource is Ready.
    async fn ready(&self) {
        let resource = || self.api.get(RESOURCE).unwrap();
        let began = Instant::now();
        while resource()["status"]["conditions"][0]["status"] != "True" {
            assert!(began.elapsed() < PATIENCE, "{}", resource()["status"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_watch_that_always_fails_delays_no_other() {
    let trial = Trial::new();
    trial.api.refuse("WATCH pods", 403);
    let test = async {
        trial.call("APPLY deployments").await;
        // After some failures in succession the waits are long.
        tokio::time::sleep(Duration::from_secs(6)).await;
        for port in 1..=3 {
            trial.api.calls();
            trial.api.change(SERVICE, |service| service["spec"]["ports"][0]["port"] = json!(port));
            let took = trial.call("APPLY services/ledger-redis").await;
            assert!(took < Duration::from_secs(2), "the change was acted on after {took:?}");
        }
    };
    trial.watching(test).await;
}

#[tokio::test]
async fn a_resource_whose_objects_change_all_the_time_is_reconciled_nevertheless() {
    let trial = Trial::new();
    let pod = "/api/v1/namespaces/accounts/pods/ledger-aggregator-0";
    let labels = json!({"app.kubernetes.io/managed-by": "sluice-operator", "app.kubernetes.io/instance": "ledger"});
    let storm = async {
        for change in 0_u32.. {
            trial.api.put(
                pod,
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": "ledger-aggregator-0", "namespace": "accounts", "labels": labels,
                        "annotations": {"change": change.to_string()}}
                }),
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let test = async {
        trial.call("APPLY deployments").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let changes = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            trial.api.calls();
            trial.api.change(SERVICE, |service| service["spec"]["ports"][0]["port"] = json!(1));
            let took = trial.call("APPLY services/ledger-redis").await;
            assert!(took < Duration::from_secs(4), "the change was acted on after {took:?}");
        };
        tokio::select! {
            () = storm => {}
            () = changes => {}
        }
    };
    trial.watching(test).await;
}

/// Sets the status of all sets as if their controllers had done their work.
fn finish_rollouts(api: &Api) {
    for set in ["statefulsets/ledger-redis", "statefulsets/ledger-postgres", "statefulsets/ledger-aggregator"] {
        api.change(&format!("/apis/apps/v1/namespaces/accounts/{set}"), finish);
    }
    api.change(DEPLOYMENT, finish);
}

#[tokio::test]
async fn a_ready_resource_to_which_nothing_happens_needs_no_request_and_each_change_is_seen() {
    let trial = Trial::resyncing(Duration::from_secs(1));
    let test = async {
        trial.call("APPLY deployments").await;
        finish_rollouts(&trial.api);
        trial.ready().await;
        // What the operator wrote itself is a change too. After it, a resync passes.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        trial.api.calls();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(trial.api.calls(), Vec::<String>::new());

        // The resource would be read again, whatever happens, in three seconds at the earliest.
        trial.api.change(SERVICE, |service| service["spec"]["ports"][0]["port"] = json!(1));
        let took = trial.call("APPLY services/ledger-redis").await;
        assert!(took < Duration::from_secs(2), "the change was acted on after {took:?}");
        // The watches may have missed something, so the resource is read again after six resyncs.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        trial.api.calls();
        trial.call("LIST services").await;
    };
    trial.watching(test).await;
}

#[tokio::test]
async fn a_kind_that_the_cluster_lacks_makes_no_resource_read_again() {
    let resync = Duration::from_secs(3);
    let trial = Trial::resyncing(resync);
    let lacked = ["LIST podmonitors", "LIST prometheusrules"];
    trial.api.change(RESOURCE, |resource| resource["spec"]["monitoring"] = json!({}));
    lacked.iter().for_each(|call| trial.api.refuse(call, 404));
    let test = async {
        trial.call("APPLY deployments").await;
        finish_rollouts(&trial.api);
        trial.ready().await;
        tokio::time::sleep(resync / 2).await;
        trial.api.calls();
        // The watch tries again. Before the next resync but five, nothing else is read.
        trial.call(lacked[0]).await;
        tokio::time::sleep(resync * 5 / 4).await;
        let others = trial.api.calls().into_iter().filter(|call| !lacked.iter().any(|lacked| call.starts_with(lacked)));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
    };
    trial.watching(test).await;
}

#[tokio::test]
async fn an_operator_whose_resources_are_not_defined_is_not_ready_until_they_are() {
    let trial = Trial::new();
    trial.api.refuse("LIST eventaggregators", 404);
    let readiness = || trial.context.watches.readiness(Instant::now());
    let until = async |is_ready: bool| {
        let began = Instant::now();
        while readiness().is_ok() != is_ready {
            assert!(began.elapsed() < PATIENCE, "{:?}", readiness());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let test = async {
        assert_eq!(readiness(), Ok(vec![]));
        until(false).await;
        let reason = readiness().unwrap_err();
        assert!(reason.starts_with("cannot watch eventaggregators in namespace accounts: "), "{reason}");
        trial.api.allow("LIST eventaggregators");
        until(true).await;
        trial.call("APPLY deployments").await;
    };
    trial.watching(test).await;
}

#[tokio::test]
async fn all_namespaces_share_the_reconciles_that_run_at_the_same_time() {
    let trial = Trial::new();
    let mut other = serde_json::to_value(fixture("ledger.yaml")).unwrap();
    other["metadata"]["namespace"] = json!("billing");
    other["metadata"]["uid"] = json!("another");
    trial.api.put(&RESOURCE.replace("accounts", "billing"), other);
    // The metadata of pods is also listed once by each watch.
    trial.api.delay("LIST pods", Duration::from_millis(100));
    let slots = Arc::new(Slots::new(1));
    let most = async {
        let (began, mut most, mut ended) = (Instant::now(), 0, 0);
        while ended < 2 {
            most = most.max(trial.context.progress.running());
            ended += trial.api.calls().iter().filter(|call| *call == "MERGE eventaggregators/ledger/status").count();
            assert!(began.elapsed() < PATIENCE, "{ended} have ended");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    };
    let most = tokio::select! {
        () = trial.watch("accounts", &slots) => 0,
        () = trial.watch("billing", &slots) => 0,
        most = most => most,
    };
    assert_eq!(most, 1);
}
