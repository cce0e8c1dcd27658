//! A HorizontalPodAutoscaler of a user that scales the publishers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{DEPLOYMENT, RESOURCE, Trial};

const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/accounts/horizontalpodautoscalers/busy";

/// Returns a system whose publishers an autoscaler scales, which has not changed their number yet.
async fn autoscaled() -> Trial {
    let trial = Trial::new();
    trial.api.change(RESOURCE, |resource| resource["spec"]["publisher"]["replicas"] = json!(2));
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "ledger-publisher"});
    trial.api.put(
        AUTOSCALER,
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "busy", "namespace": "accounts"},
            "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
        }),
    );
    trial
}

/// Sets the number as the autoscaler does, by the subresource `scale`.
fn scale(trial: &Trial, replicas: i32) {
    trial.api.change(DEPLOYMENT, |deployment| {
        deployment["spec"]["replicas"] = json!(replicas);
        let entry = json!({"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
            "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let entries = deployment["metadata"]["managedFields"].as_array_mut().unwrap();
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    });
}

fn replicas(trial: &Trial) -> Value {
    trial.api.get(DEPLOYMENT).unwrap()["spec"]["replicas"].clone()
}

#[tokio::test]
async fn the_number_of_an_autoscaler_stays_and_each_change_of_it_costs_no_write() {
    let trial = autoscaled().await;
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial), 2, "nobody has changed the number of the spec yet");
    scale(&trial, 4);
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial), 4);
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    for next in [7, 1, 3] {
        scale(&trial, next);
        trial.finish_rollouts();
        trial.reconcile().await.unwrap();
        trial.api.calls();
        trial.reconcile().await.unwrap();
        assert_eq!((replicas(&trial), trial.api.writes()), (json!(next), Vec::new()));
    }
    assert_eq!(trial.condition("Ready")["status"], "True");
}

#[tokio::test]
async fn another_change_of_the_spec_does_not_set_the_number_back() {
    let trial = autoscaled().await;
    scale(&trial, 4);
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| resource["spec"]["publisher"]["limits"]["maxEvents"] = json!(7));
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial), 4);
    let env = trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    assert!(env.as_array().unwrap().contains(&json!({"name": "SLUICE_MAX_EVENTS", "value": "7"})), "{env}");
}

#[tokio::test]
async fn without_the_autoscaler_the_number_of_the_spec_counts_again() {
    let trial = autoscaled().await;
    scale(&trial, 4);
    trial.reconcile().await.unwrap();
    trial.api.remove(AUTOSCALER);
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial), 2);
}

#[tokio::test]
async fn an_autoscaler_of_something_else_changes_nothing() {
    let trial = autoscaled().await;
    trial.api.change(AUTOSCALER, |autoscaler| autoscaler["spec"]["scaleTargetRef"]["name"] = json!("other"));
    scale(&trial, 4);
    trial.reconcile().await.unwrap();
    assert_eq!(replicas(&trial), 2);
}

mod of_the_operator {
    use super::*;

    const OWN: &str = "/apis/autoscaling/v2/namespaces/accounts/horizontalpodautoscalers/ledger-publisher";

    async fn asked_for() -> Trial {
        let trial = Trial::new();
        trial.change_spec(|spec| spec["publisher"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 6}));
        trial.reconcile().await.unwrap();
        trial.finish_rollouts();
        trial
    }

    #[tokio::test]
    async fn one_is_created_and_scales_the_publishers_from_the_minimum() {
        let trial = asked_for().await;
        let spec = trial.api.get(OWN).unwrap()["spec"].clone();
        assert_eq!(spec["scaleTargetRef"]["name"], "ledger-publisher");
        assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(2), &json!(6)));
        assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
        assert_eq!(replicas(&trial), 2);
        scale(&trial, 5);
        trial.finish_rollouts();
        trial.reconcile().await.unwrap();
        assert_eq!(replicas(&trial), 5);
        trial.api.calls();
        trial.reconcile().await.unwrap();
        assert_eq!((replicas(&trial), trial.api.writes()), (json!(5), Vec::new()));
    }

    #[tokio::test]
    async fn it_is_deleted_with_the_field_and_the_number_of_the_spec_counts_again() {
        let trial = asked_for().await;
        scale(&trial, 5);
        trial.reconcile().await.unwrap();
        trial.change_spec(|spec| spec["publisher"]["autoscaling"] = Value::Null);
        trial.reconcile().await.unwrap();
        assert_eq!((replicas(&trial), trial.api.get(OWN)), (json!(1), None));
    }

    #[tokio::test]
    async fn it_gives_way_to_one_of_a_user_and_says_so() {
        let trial = asked_for().await;
        scale(&trial, 5);
        trial.api.put(AUTOSCALER, {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "ledger-publisher"});
            json!({
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "busy", "namespace": "accounts"},
                "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
            })
        });
        trial.reconcile().await.unwrap();
        trial.finish_rollouts();
        trial.reconcile().await.unwrap();
        assert_eq!((replicas(&trial), trial.api.get(OWN)), (json!(5), None));
        let progressing = trial.condition("Progressing");
        assert_eq!(progressing["reason"], "AutoscalingConflict");
        assert_eq!(
            progressing["message"],
            "HorizontalPodAutoscaler busy scales the publishers, so spec.publisher.autoscaling has no effect"
        );
    }
}
