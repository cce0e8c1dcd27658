//! A resource whose pods all stop, and start again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{DEPLOYMENT, SETS, Trial};

const PODS: &str = "/api/v1/namespaces/accounts/pods";
/// All components, in the order in which they stop.
const COMPONENTS: [&str; 4] = ["publisher", "aggregator", "redis", "postgres"];

/// Returns a system of which a pod of each component runs.
async fn running() -> Trial {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    for component in COMPONENTS {
        start(&trial, component);
    }
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True");
    trial
}

fn start(trial: &Trial, component: &str) {
    trial.api.put(
        &format!("{PODS}/ledger-{component}-0"),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("ledger-{component}-0"), "namespace": "accounts", "labels": {
                "app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "ledger",
                "app.kubernetes.io/component": component, "app.kubernetes.io/managed-by": "sluice-operator"}},
            "status": {"phase": "Running"}
        }),
    );
}

fn stop(trial: &Trial, component: &str) {
    trial.api.remove(&format!("{PODS}/ledger-{component}-0"));
}

fn hibernate(trial: &Trial, hibernated: bool) {
    trial.change_spec(|spec| spec["hibernated"] = json!(hibernated));
}

/// Returns the requested numbers of pods, in the order of [`COMPONENTS`].
fn requested(trial: &Trial) -> [Value; 4] {
    COMPONENTS.map(|component| {
        let path = match component {
            "publisher" => DEPLOYMENT.to_owned(),
            _ => format!("{SETS}/ledger-{component}"),
        };
        trial.api.get(&path).unwrap()["spec"]["replicas"].clone()
    })
}

fn reasons(trial: &Trial) -> [Value; 4] {
    let (ready, progressing) = (trial.condition("Ready"), trial.condition("Progressing"));
    [&ready["status"], &ready["reason"], &progressing["status"], &progressing["reason"]].map(Value::clone)
}

#[tokio::test]
async fn a_component_stops_when_no_pod_runs_that_sends_to_it() {
    let trial = running().await;
    hibernate(&trial, true);
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [0, 3, 1, 1].map(Value::from));
    assert_eq!(reasons(&trial), ["False", "Hibernating", "True", "Hibernating"].map(Value::from));

    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [0, 3, 1, 1].map(Value::from), "a publisher still runs");
    stop(&trial, "publisher");
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [0, 0, 1, 1].map(Value::from));
    stop(&trial, "aggregator");
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [0, 0, 0, 0].map(Value::from));
    assert_eq!(
        trial.condition("Ready")["message"],
        "spec.hibernated is true: waiting for pods to stop, 1 postgres, 1 redis left"
    );

    stop(&trial, "redis");
    stop(&trial, "postgres");
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(reasons(&trial), ["False", "Hibernated", "False", "Hibernated"].map(Value::from));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), Vec::<String>::new(), "nothing is left to do");
}

#[tokio::test]
async fn a_resource_that_wakes_has_the_numbers_of_its_spec() {
    let trial = running().await;
    hibernate(&trial, true);
    for component in COMPONENTS {
        stop(&trial, component);
    }
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [0, 0, 0, 0].map(Value::from));
    hibernate(&trial, false);
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), [1, 3, 1, 1].map(Value::from));
    let deployment = trial.api.get(DEPLOYMENT).unwrap();
    assert_eq!(deployment["metadata"]["annotations"]["sluice.dev/hibernated"], Value::Null);
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True");
}

#[tokio::test]
async fn publishers_that_an_autoscaler_of_a_user_scales_wake_too() {
    let trial = running().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "ledger-publisher"});
    trial.api.put(
        "/apis/autoscaling/v2/namespaces/accounts/horizontalpodautoscalers/busy",
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "busy", "namespace": "accounts"},
            "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
        }),
    );
    hibernate(&trial, true);
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial)[0], 0);
    hibernate(&trial, false);
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial)[0], 1, "no autoscaler starts from 0");
}
