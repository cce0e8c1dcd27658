//! An external Redis that has replicas: with Sentinels, or as a cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{DEPLOYMENT, SECRETS, SETS, Trial};

/// Returns a resource whose Redis has this URL.
fn external(url: &str) -> Trial {
    let trial = Trial::new();
    let secret = support::secret("accounts", "cache", "url", url);
    trial.api.put(&format!("{SECRETS}/cache"), serde_json::to_value(secret).unwrap());
    trial.change_spec(|spec| {
        spec["redis"] = json!({"external": {"secretRef": {"name": "cache"}}, "replicas": 2,
            "sentinel": {"user": "watcher", "secretName": "watchers"}});
    });
    trial
}

fn variable(trial: &Trial, path: &str, name: &str) -> Value {
    let object = trial.api.get(path).unwrap();
    let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    env.into_iter().find(|variable| variable["name"] == name).unwrap_or_default()
}

#[tokio::test]
async fn programs_log_in_to_the_sentinels_and_wait_for_the_replicas() {
    let trial = external("redis+sentinel://:pw@s1,s2:5000/shop");
    trial.reconcile().await.unwrap_err();
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "SecretMissing");
    assert!(ready["message"].as_str().unwrap().contains("spec.redis.sentinel.secretName"), "{ready}");

    let secret = support::secret("accounts", "watchers", "password", "pw");
    trial.api.put(&format!("{SECRETS}/watchers"), serde_json::to_value(secret).unwrap());
    trial.reconcile().await.unwrap();
    let aggregators = format!("{SETS}/ledger-aggregator");
    for path in [DEPLOYMENT, &aggregators] {
        assert_eq!(variable(&trial, path, "SLUICE_REDIS_SENTINEL_USER")["value"], "watcher");
        let password = variable(&trial, path, "SLUICE_REDIS_SENTINEL_PASSWORD");
        assert_eq!(password["valueFrom"]["secretKeyRef"], json!({"name": "watchers", "key": "password"}));
    }
    assert_eq!(variable(&trial, DEPLOYMENT, "SLUICE_REDIS_REPLICAS")["value"], "2");
    assert_eq!(variable(&trial, &aggregators, "SLUICE_REDIS_REPLICAS"), Value::Null, "publishers alone append");
    let policy = "/apis/networking.k8s.io/v1/namespaces/accounts/networkpolicies/ledger-publisher";
    let rules = trial.api.get(policy).unwrap()["spec"]["egress"].as_array().unwrap().clone();
    let ports = |rule: &Value| rule["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()).collect();
    let all: Vec<Vec<Value>> = rules.iter().map(ports).collect();
    assert!(all.contains(&vec![json!(5000), json!(6379), json!(26379)]), "{all:?}");
}

#[tokio::test]
async fn pods_are_replaced_when_the_password_of_the_sentinels_changes() {
    let trial = external("redis+sentinel://:pw@s1/shop");
    let path = format!("{SECRETS}/watchers");
    let hash = || trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"]["metadata"]["annotations"].clone();
    let mut seen = Vec::new();
    for password in ["one", "two"] {
        let secret = support::secret("accounts", "watchers", "password", password);
        trial.api.put(&path, serde_json::to_value(secret).unwrap());
        trial.reconcile().await.unwrap();
        seen.push(hash());
    }
    assert_ne!(seen[0], seen[1]);
}
