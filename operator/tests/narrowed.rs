//! An operator that reads only Secrets with certain labels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use sluice_operator::controller::plan::Defaults;
use support::trial::{DEPLOYMENT, SECRETS, SETS, Trial, finish};
use support::{defaults, secret};

const LABEL: &str = "sluice.dev/readable";

/// A resource with an external Redis and TLS of its own, for an operator that reads only labelled Secrets.
fn trial() -> Trial {
    let trial = Trial::with(Defaults { secret_selector: Some(format!("{LABEL}=true")), ..defaults() });
    trial.change_spec(|spec| {
        spec["redis"] = json!({"external": {"secretRef": {"name": "cache"}}});
        spec["auth"] = json!({});
    });
    trial
}

/// Redis has no StatefulSet here.
fn finish_rollouts(trial: &Trial) {
    for path in [format!("{SETS}/ledger-postgres"), format!("{SETS}/ledger-aggregator"), DEPLOYMENT.to_owned()] {
        trial.api.change(&path, finish);
    }
}

fn put(trial: &Trial, readable: bool) {
    let mut cache = secret("accounts", "cache", "url", "redis://:pw@cache.example:6379/0");
    if readable {
        cache.metadata.labels = Some([(LABEL.to_owned(), "true".to_owned())].into());
    }
    trial.api.put(&format!("{SECRETS}/cache"), serde_json::to_value(cache).unwrap());
}

#[tokio::test]
async fn a_secret_without_the_labels_counts_as_missing_and_the_message_names_them() {
    let trial = trial();
    put(&trial, false);
    assert!(trial.reconcile().await.is_err());
    let ready = trial.condition("Ready");
    assert_eq!(ready["reason"], "SecretMissing");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("Secret cache") && message.contains("sluice.dev/readable=true"), "{message}");

    put(&trial, true);
    trial.reconcile().await.unwrap();
    finish_rollouts(&trial);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("PublisherReady")["status"], "True");
}

#[tokio::test]
async fn such_an_operator_gets_no_secret_by_its_name() {
    let trial = trial();
    put(&trial, true);
    // A Secret of somebody else has the name of the password, so that the operator has every reason to look at it.
    let taken = secret("accounts", "ledger-postgres", "password", "x");
    trial.api.put(&format!("{SECRETS}/ledger-postgres"), serde_json::to_value(taken).unwrap());
    assert!(trial.reconcile().await.is_err());
    assert_eq!(trial.condition("Ready")["reason"], "NameTaken");
    trial.api.remove(&format!("{SECRETS}/ledger-postgres"));
    for _ in 0..3 {
        trial.reconcile().await.unwrap();
        finish_rollouts(&trial);
    }
    let calls = trial.api.calls();
    let gets: Vec<_> = calls.iter().filter(|call| call.starts_with("GET secrets")).collect();
    assert!(gets.is_empty(), "{gets:?}");
    assert!(calls.iter().any(|call| call == "LIST secrets"), "{calls:?}");
}
