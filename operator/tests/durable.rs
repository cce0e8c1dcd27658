//! The condition Durable: what the topology promises when a node or a server is lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::clusters::{CLUSTER, ready, report};
use support::trial::{SECRETS, Trial};

/// Returns the condition of a resource with these servers.
async fn durable(redis: Option<(&str, i32)>, postgres: Value) -> Value {
    let trial = Trial::new();
    for (name, url) in [("cache", redis.map_or("", |(url, _)| url)), ("db", "postgres://u:p@db/events")] {
        let secret = support::secret("accounts", name, "url", url);
        trial.api.put(&format!("{SECRETS}/{name}"), serde_json::to_value(secret).unwrap());
    }
    trial.change_spec(|spec| {
        spec["postgres"] = postgres;
        if let Some((_, replicas)) = redis {
            spec["redis"] = json!({"external": {"secretRef": {"name": "cache"}}, "replicas": replicas});
        }
    });
    trial.reconcile().await.unwrap();
    trial.condition("Durable")
}

const SENTINEL: &str = "redis+sentinel://:pw@s1,s2/shop";

#[tokio::test]
async fn the_server_that_promises_less_decides() {
    let external = || json!({"external": {"secretRef": {"name": "db"}}});
    let cluster = |cluster: Value| json!({ "cloudNativePG": cluster });
    let off = || json!({"synchronous": {"enabled": false}});
    let preferred = || json!({"synchronous": {"dataDurability": "preferred"}});
    for (redis, postgres, status, reason) in [
        (None, json!({}), "False", "SingleNode"),
        (None, cluster(json!({})), "False", "SingleNode"),
        (Some((SENTINEL, 1)), json!({}), "False", "SingleNode"),
        (Some((SENTINEL, 1)), cluster(json!({"instances": 1})), "False", "SingleNode"),
        (Some((SENTINEL, 1)), cluster(off()), "False", "AsyncStandby"),
        (Some((SENTINEL, 1)), cluster(preferred()), "False", "AsyncStandby"),
        (Some((SENTINEL, 0)), cluster(json!({})), "False", "AsyncStandby"),
        (Some(("rediss+cluster://:pw@n1,n2", 0)), external(), "False", "AsyncStandby"),
        (Some(("redis://cache", 0)), cluster(off()), "False", "AsyncStandby"),
        (Some(("redis://cache", 0)), cluster(json!({})), "Unknown", "TopologyUnknown"),
        (Some((SENTINEL, 1)), external(), "Unknown", "TopologyUnknown"),
        (Some((SENTINEL, 1)), cluster(json!({})), "True", "SynchronousStandby"),
        (Some(("redis://cache", 2)), cluster(json!({"instances": 2})), "True", "SynchronousStandby"),
    ] {
        let condition = durable(redis, postgres.clone()).await;
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!(status), &json!(reason)),
            "{redis:?} {postgres}"
        );
        let message = condition["message"].as_str().unwrap();
        assert!(message.starts_with("Redis: ") && message.contains(". PostgreSQL: "), "{message}");
    }
}

#[tokio::test]
async fn the_message_says_what_to_set_for_each_server() {
    let condition = durable(Some((SENTINEL, 0)), json!({"cloudNativePG": {"synchronous": {"enabled": false}}})).await;
    let message = condition["message"].as_str().unwrap();
    for words in ["spec.redis.replicas", "spec.postgres.cloudNativePG.synchronous", "stored again"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn it_follows_from_the_spec_and_does_not_change_with_the_state_of_servers() {
    let trial = ready().await;
    let before = trial.condition("Durable");
    for (phase, count) in [("Failing over", 0), ("Creating a new replica", 1), ("Cluster in healthy state", 3)] {
        report(&trial, phase, count);
        trial.reconcile().await.unwrap();
        assert_eq!(trial.condition("Durable"), before, "{phase}");
    }
    trial.api.remove(CLUSTER);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Durable"), before);
    trial.change_spec(|spec| spec["paused"] = json!(true));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Durable"), before);
}
