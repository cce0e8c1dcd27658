//! Rollouts: which pods a change of the spec replaces.

use serde_json::{Value, json};

use super::{containers, kubectl_in, replaced};
use crate::support::trial::{NAME, Stage, create, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_replaces_the_pods_that_it_is_about_and_no_others() {
    let stage = Stage::shared("rolls").await;
    let namespace = &stage.namespace;
    create(namespace, NAME, small(1)).await;
    namespace.ready(NAME).await;

    let policies = async || kubectl_in(namespace, &["get", "networkpolicies", "-o", "name"]).await.lines().count();
    assert_eq!(policies().await, 5, "one for each component, and one that denies everything else");
    let mut before = containers(namespace).await;
    let changes: [(Value, &[&str]); 7] = [
        (json!({ "aggregator": { "workers": 3 } }), &["aggregator"]),
        (json!({ "publisher": { "limits": { "maxEvents": 500 } } }), &["publisher"]),
        (json!({ "redis": { "managed": { "memory": "320Mi" } } }), &["redis"]),
        // Nobody listens there, which stops nothing.
        (json!({ "tracing": { "endpoint": "http://localhost:4318", "ratio": "1" } }), &["aggregator", "publisher"]),
        (json!({ "tracing": null }), &["aggregator", "publisher"]),
        (json!({ "networkPolicy": { "enabled": false } }), &[]),
        (json!({ "deletionPolicy": "Delete", "networkPolicy": { "enabled": true } }), &[]),
    ];
    for (change, parts) in changes {
        namespace.patch(NAME, json!({ "spec": change })).await;
        namespace.ready(NAME).await;
        let after = containers(namespace).await;
        assert_eq!(replaced(&before, &after), parts, "{change}: {before:#?}\n{after:#?}");
        let denied = change["networkPolicy"]["enabled"] != false;
        assert_eq!(policies().await, if denied { 5 } else { 0 }, "policies after {change}");
        before = after;
    }
}
