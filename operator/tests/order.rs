//! The order in which the images of publishers and aggregators change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{DEPLOYMENT, RESOURCE, SETS, Trial, finish};

#[tokio::test]
async fn new_publishers_wait_until_all_aggregators_are_replaced() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| {
        resource["spec"]["images"]["aggregator"] = json!("mirror.example/agg:3");
        resource["spec"]["images"]["publisher"] = json!("mirror.example/pub:3");
    });
    trial.api.calls();
    trial.reconcile().await.unwrap();
    let image = |trial: &Trial| {
        trial.api.get(DEPLOYMENT).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(image(&trial), "mirror.example/pub:2");
    assert_eq!(trial.condition("PublisherReady")["reason"], "WaitingForAggregators");
    assert_eq!(trial.condition("Ready")["status"], "False");

    trial.api.change(&format!("{SETS}/ledger-aggregator"), finish);
    trial.reconcile().await.unwrap();
    assert_eq!(image(&trial), "mirror.example/pub:3");
}

#[tokio::test]
async fn aggregators_go_back_after_the_publishers_have_and_what_these_wrote_is_stored() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| {
        resource["spec"]["images"]["aggregator"] = json!("mirror.example/agg:v1.9.0");
        resource["spec"]["images"]["publisher"] = json!("mirror.example/pub:1.9.0");
        resource["status"]["backlog"] = json!(12);
    });
    trial.reconcile().await.unwrap();
    let images = |trial: &Trial| {
        [format!("{SETS}/ledger-aggregator"), DEPLOYMENT.to_owned()].map(|path| {
            let object = trial.api.get(&path).unwrap();
            object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
        })
    };
    assert_eq!(images(&trial), ["mirror.example/agg:2", "mirror.example/pub:1.9.0"]);
    assert_eq!(trial.condition("AggregatorReady")["reason"], "WaitingForPublishers");
    assert_eq!(trial.condition("Ready")["status"], "False");

    // The publishers have just been replaced: what their predecessors wrote is still in the streams.
    let finish_at = |ago: i64| {
        move |deployment: &mut Value| {
            finish(deployment);
            let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago);
            let time = time.round(jiff::Unit::Second).unwrap().to_string();
            deployment["status"]["conditions"] =
                json!([{"type": "Progressing", "status": "True", "lastUpdateTime": time}]);
        }
    };
    trial.api.change(DEPLOYMENT, finish_at(60));
    trial.reconcile().await.unwrap();
    assert_eq!(images(&trial)[0], "mirror.example/agg:2", "the backlog is 12");
    trial.api.change(RESOURCE, |resource| resource["status"]["backlog"] = json!(0));
    trial.api.change(DEPLOYMENT, finish_at(5));
    trial.reconcile().await.unwrap();
    assert_eq!(images(&trial)[0], "mirror.example/agg:2", "the backlog may be older than the last publisher");
    trial.api.change(DEPLOYMENT, finish_at(60));
    trial.reconcile().await.unwrap();
    assert_eq!(images(&trial), ["mirror.example/agg:v1.9.0", "mirror.example/pub:1.9.0"]);
}

#[tokio::test]
async fn publishers_that_go_back_do_not_wait_for_aggregators_and_these_do_not_wait_for_ever() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    // Another change is being rolled out, and its aggregators do not become ready.
    trial.api.change(&format!("{SETS}/ledger-aggregator"), |set| set["status"]["updatedReplicas"] = json!(0));
    trial.api.change(RESOURCE, |resource| {
        resource["spec"]["images"]["aggregator"] = json!("mirror.example/agg:1");
        resource["spec"]["images"]["publisher"] = json!("mirror.example/pub:1");
        resource["status"]["backlog"] = Value::Null;
    });
    trial.reconcile().await.unwrap();
    let image = |path: &str| trial.api.get(path).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image(DEPLOYMENT), "mirror.example/pub:1");
    trial.api.change(DEPLOYMENT, |deployment| {
        finish(deployment);
        let condition = json!({"type": "Progressing", "status": "True", "lastUpdateTime": "2025-01-01T00:00:00Z"});
        deployment["status"]["conditions"] = json!([condition]);
    });
    trial.reconcile().await.unwrap();
    assert_eq!(image(&format!("{SETS}/ledger-aggregator")), "mirror.example/agg:1");
}
