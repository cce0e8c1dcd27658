//! An upgrade of the operator that changes the servers of all resources.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use sluice_operator::controller::plan::Defaults;
use sluice_operator::controller::{Context, reconcile};
use sluice_operator::crd::EventAggregator;
use sluice_operator::program_client::Programs;
use support::fake::Api;
use support::trial::finish;
use support::{defaults, fixture};

const NAMESPACES: [&str; 2] = ["accounts", "till"];

fn resource(namespace: &str) -> String {
    format!("/apis/sluice.dev/v1alpha1/namespaces/{namespace}/eventaggregators/ledger")
}

fn set(namespace: &str, component: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/ledger-{component}")
}

/// An operator that has just started, with these settings.
fn operator(api: &Api, defaults: Defaults) -> Arc<Context> {
    let programs = Programs::new().unwrap();
    Arc::new(Context::new(api.client(), programs, defaults, Duration::from_secs(600), "operator-0".into()))
}

async fn look(api: &Api, context: &Arc<Context>, namespace: &str) {
    let stored: EventAggregator = serde_json::from_value(api.get(&resource(namespace)).unwrap()).unwrap();
    reconcile(Arc::new(DeserializeGuard(Ok(stored))), context.clone()).await.unwrap();
}

fn finish_rollouts(api: &Api, namespace: &str) {
    for component in ["redis", "postgres", "aggregator"] {
        api.change(&set(namespace, component), finish);
    }
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/ledger-publisher");
    api.change(&deployment, finish);
}

/// Returns the resources of two namespaces, which are ready.
async fn two_resources() -> Api {
    let api = Api::default();
    let context = operator(&api, defaults());
    for namespace in NAMESPACES {
        let mut ledger = serde_json::to_value(fixture("ledger.yaml")).unwrap();
        ledger["metadata"]["namespace"] = json!(namespace);
        ledger["metadata"]["uid"] = json!(uid(namespace));
        ledger["spec"]["images"] = json!({});
        api.put(&resource(namespace), ledger);
        look(&api, &context, namespace).await;
        finish_rollouts(&api, namespace);
        look(&api, &context, namespace).await;
        assert_eq!(condition(&api, namespace, "Ready")["status"], "True");
    }
    api
}

fn uid(namespace: &str) -> String {
    format!("uid-in-{namespace}")
}

fn condition(api: &Api, namespace: &str, name: &str) -> Value {
    let stored = api.get(&resource(namespace)).unwrap();
    let conditions = stored["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == name).unwrap_or_default()
}

fn image(api: &Api, namespace: &str) -> Value {
    api.get(&set(namespace, "redis")).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

fn upgraded() -> Defaults {
    Defaults { image_redis: "redis:newer".into(), ..defaults() }
}

#[tokio::test]
async fn an_upgrade_of_the_operator_restarts_the_servers_of_one_resource_after_another() {
    let api = two_resources().await;
    let context = operator(&api, upgraded());
    for namespace in NAMESPACES {
        look(&api, &context, namespace).await;
    }
    assert_eq!([image(&api, "accounts"), image(&api, "till")], ["redis:newer", "redis:test"]);
    let (ready, progressing) = (condition(&api, "till", "Ready"), condition(&api, "till", "Progressing"));
    assert_eq!((&ready["status"], &progressing["reason"]), (&json!("True"), &json!("WaitingForTurn")));
    assert!(progressing["message"].as_str().unwrap().contains("accounts/ledger"), "{progressing}");

    // While the new pod starts, the other resource has no turn, whoever asks.
    look(&api, &context, "accounts").await;
    look(&api, &context, "till").await;
    assert_eq!(image(&api, "till"), "redis:test");
    assert!(!context.server_restarts.take_turn(&uid("till"), "till/ledger", Instant::now()));

    finish_rollouts(&api, "accounts");
    look(&api, &context, "accounts").await;
    assert!(context.server_restarts.take_turn(&uid("till"), "till/ledger", Instant::now()));
    look(&api, &context, "till").await;
    assert_eq!(image(&api, "till"), "redis:newer");
    finish_rollouts(&api, "till");
    look(&api, &context, "till").await;
    assert_eq!(condition(&api, "till", "Progressing")["reason"], "Complete");
}

#[tokio::test]
async fn a_change_of_the_resource_waits_for_nobody() {
    let api = two_resources().await;
    let context = operator(&api, upgraded());
    look(&api, &context, "accounts").await;
    api.change(&resource("till"), |till| {
        till["spec"]["images"]["redis"] = json!("redis:mine");
        till["metadata"]["generation"] = json!(till["metadata"]["generation"].as_i64().unwrap() + 1);
    });
    look(&api, &context, "till").await;
    assert_eq!([image(&api, "accounts"), image(&api, "till")], ["redis:newer", "redis:mine"]);
}

#[tokio::test]
async fn a_server_that_waits_for_its_turn_can_be_stopped() {
    let api = two_resources().await;
    let context = operator(&api, upgraded());
    for namespace in NAMESPACES {
        look(&api, &context, namespace).await;
    }
    api.change(&resource("till"), |till| {
        till["spec"]["hibernated"] = json!(true);
        till["metadata"]["generation"] = json!(till["metadata"]["generation"].as_i64().unwrap() + 1);
    });
    for _ in 0..3 {
        look(&api, &context, "till").await;
    }
    assert_eq!(api.get(&set("till", "redis")).unwrap()["spec"]["replicas"], 0);
}
