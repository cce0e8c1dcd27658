//! Authentication: clients need a token, the operator has one of its own, and other tokens replace no pods.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use sluice_tests::wait::holds;
use sluice_tests::{Client, wait_until};

use super::containers;
use crate::support::forward::Forward;
use crate::support::objects::SOON;
use crate::support::tokens::accept;
use crate::support::trial::{NAME, Stage, create, small};

/// Nodes update mounted Secrets within about two minutes.
const IN_FORCE: Duration = Duration::from_secs(300);

fn events(name: &str) -> Value {
    let events =
        (0..50).map(|number| json!({ "topic": "guarded", "event_id": format!("{name}-{number}"), "payload": {} }));
    events.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_need_a_token_and_other_tokens_are_in_force_without_a_restart() {
    let stage = Stage::shared("auth").await;
    let namespace = &stage.namespace;
    accept(namespace, "first", json!({})).await;
    let mut spec = small(1);
    spec["auth"] = json!({ "tokens": { "name": "clients" } });
    create(namespace, NAME, spec).await;
    namespace.ready(NAME).await;

    let publisher = namespace.pods_of(NAME, "publisher").await.remove(0).name_any();
    let forward = Forward::start(&namespace.client, &namespace.name, &publisher, 8080).await;
    let nobody = Client::new(&format!("http://{}", forward.address()));
    let (first, second) = (nobody.with_token("first"), nobody.with_token("second"));
    nobody.publish_raw(events("nobody").to_string()).await.assert_problem(401, "unauthorized");
    second.publish_raw(events("second").to_string()).await.assert_problem(401, "unauthorized");
    assert_eq!(first.publish(&events("first")).await, 50);
    nobody.get("/stats").await.assert_problem(401, "unauthorized");
    assert_eq!(first.get("/metrics").await.status, 404, "metrics are at a port of their own");
    wait_until("the operator reads the totals with its own token, and the backlog without one", SOON, || async {
        let status = namespace.resource(NAME).await["status"].clone();
        let read = status["totals"]["uniqueProcessed"] == 50 && status["backlog"] == 0;
        holds(read, || status.to_string())
    })
    .await;

    let before = containers(namespace).await;
    accept(namespace, "second", json!({})).await;
    wait_until("the second token is in force, and the first no more", IN_FORCE, || async {
        let (first, second) = (first.get("/stats").await.status, second.get("/stats").await.status);
        holds(first == 401 && second == 200, || format!("{first} {second}"))
    })
    .await;
    assert_eq!(containers(namespace).await, before, "other tokens replace no pod");
    assert_eq!(second.publish(&events("second")).await, 50);
    namespace.ready(NAME).await;
}
