//! The requests that the reconciler sends to the API server, and their order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use serde_json::{Value, json};
use sluice_operator::controller::error::Error;
use sluice_operator::controller::reason::Reason;
use sluice_operator::controller::{after_failure, reconcile};
use sluice_operator::crd::EventAggregator;
use support::trial::{DEPLOYMENT, RESOURCE, SECRETS, SETS, Trial, finish};

#[tokio::test]
async fn a_new_resource_is_read_whole_then_made_in_order_then_reported() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let calls = trial.api.calls();
    let reads: Vec<_> = calls.iter().take_while(|call| call.starts_with("LIST")).map(|call| &call[5..]).collect();
    assert_eq!(
        reads,
        [
            "secrets",
            "statefulsets",
            "persistentvolumeclaims",
            "serviceaccounts",
            "configmaps",
            "networkpolicies",
            "services",
            "poddisruptionbudgets",
            "deployments",
            "ingresses",
            "httproutes",
            "podmonitors",
            "prometheusrules",
            "cronjobs",
            "jobs",
            "pods",
            "horizontalpodautoscalers"
        ]
    );
    let writes: Vec<_> = calls.iter().filter(|call| !call.starts_with("LIST") && !call.starts_with("GET")).collect();
    assert_eq!(writes[..2], ["CREATE secrets", "CREATE secrets"]);
    let kinds: Vec<_> = writes[2..].iter().map(|call| call.split('/').next().unwrap()).collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(
        order,
        [
            "APPLY serviceaccounts",
            "APPLY configmaps",
            "APPLY networkpolicies",
            "APPLY services",
            "APPLY poddisruptionbudgets",
            "APPLY statefulsets",
            "APPLY deployments",
            "APPLY podmonitors",
            "APPLY prometheusrules",
            "MERGE eventaggregators",
            "CREATE events"
        ]
    );
    let sets: Vec<_> =
        writes.iter().filter(|call| call.starts_with("APPLY statefulsets")).map(|call| call.as_str()).collect();
    assert_eq!(
        sets,
        [
            "APPLY statefulsets/ledger-redis",
            "APPLY statefulsets/ledger-postgres",
            "APPLY statefulsets/ledger-aggregator"
        ]
    );
    assert_eq!(trial.condition("Ready")["status"], "False");
    assert_eq!(trial.condition("Ready")["observedGeneration"], 7);
}

#[tokio::test]
async fn all_objects_are_read_at_the_same_time() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.api.delay("LIST", Duration::from_millis(300));
    let began = Instant::now();
    trial.reconcile().await.unwrap();
    // One after the other the eleven lists take three seconds.
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_steady_state_writes_nothing() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    assert_eq!(trial.condition("Progressing")["reason"], "Complete");
    trial.api.calls();

    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_status_is_compared_with_the_one_written_last_and_not_with_an_older_copy() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True");
    // What the watch delivered last. It delivers nothing more during this test.
    let cached: EventAggregator = serde_json::from_value(trial.api.get(RESOURCE).unwrap()).unwrap();
    let cached = Arc::new(DeserializeGuard(Ok(cached)));

    trial.api.change(DEPLOYMENT, |deployment| deployment["status"]["availableReplicas"] = json!(0));
    reconcile(cached.clone(), trial.context.clone()).await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "False");
    trial.api.calls();
    reconcile(cached.clone(), trial.context.clone()).await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0], "the status that was written holds still");

    trial.api.change(DEPLOYMENT, finish);
    reconcile(cached, trial.context.clone()).await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
}

#[tokio::test]
async fn a_condition_of_another_controller_stays() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let theirs = json!({
        "type": "Billed", "status": "True", "reason": "Paid", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"
    });
    trial.api.change(RESOURCE, |resource| {
        resource["status"]["conditions"].as_array_mut().unwrap().push(theirs.clone());
    });
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True");
    assert_eq!(trial.condition("Billed"), theirs);
}

#[tokio::test]
async fn a_failure_of_a_resource_that_was_deleted_is_forgotten() {
    let trial = Trial::new();
    let start = Instant::now();
    trial.context.failed("deleted", start);
    trial.context.failed("other", start + Duration::from_secs(300));
    assert_eq!(trial.context.failing(), 2);
    trial.context.failed("other", start + Duration::from_secs(2_000));
    assert_eq!(trial.context.failing(), 1);
}

#[tokio::test]
async fn a_resource_is_not_ready_before_its_sets_have_seen_the_change() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| {
        resource["spec"]["aggregator"]["replicas"] = json!(5);
        resource["metadata"]["generation"] = json!(8);
    });
    trial.api.calls();

    trial.reconcile().await.unwrap();
    let writes = trial.api.writes();
    assert_eq!(writes[..2], ["APPLY statefulsets/ledger-aggregator", "MERGE eventaggregators/ledger/status"]);
    assert!(writes[2..].iter().all(|call| call.contains("events")), "{writes:?}");
    assert_eq!(trial.condition("Ready")["status"], "False");
    assert_eq!(trial.condition("Ready")["observedGeneration"], 8);
}

#[tokio::test]
async fn a_password_is_made_once_and_never_written_again() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let made = trial.api.get(&format!("{SECRETS}/ledger-postgres")).unwrap();
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "EventAggregator", "its deletion policy is Delete");
    trial.api.calls();

    // From now on the data is retained, so the password must not be deleted with the resource either.
    trial.api.change(RESOURCE, |resource| resource["spec"]["deletionPolicy"] = json!("Retain"));
    trial.reconcile().await.unwrap();
    let kept = trial.api.get(&format!("{SECRETS}/ledger-postgres")).unwrap();
    assert_eq!(kept["metadata"]["ownerReferences"], json!([]));
    assert_eq!(kept["data"], made["data"]);
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.starts_with("CREATE secrets") || call.starts_with("APPLY secrets")));
}

#[tokio::test]
async fn a_failure_is_reported_and_no_pod_is_started_after_it() {
    let trial = Trial::new();
    trial.api.refuse("APPLY services", 403);
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Forbidden);
    assert!(error.is_retryable());
    let writes = trial.api.writes();
    assert!(writes.contains(&"APPLY poddisruptionbudgets/ledger-publisher".to_owned()), "{writes:?}");
    let starts_pods = |call: &&String| call.starts_with("APPLY statefulsets") || call.starts_with("APPLY deployments");
    assert_eq!(writes.iter().find(starts_pods), None);
    let last: Vec<_> = writes.iter().rev().take(2).rev().collect();
    assert_eq!(last, ["MERGE eventaggregators/ledger/status", "CREATE events"]);
    assert_eq!(trial.condition("Ready")["reason"], "Forbidden");

    // The same failure again publishes no second event.
    trial.reconcile().await.unwrap_err();
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.starts_with("MERGE eventaggregators")), "{writes:?}");
}

#[tokio::test]
async fn each_failure_waits_longer_and_what_cannot_help_waits_for_a_change() {
    let trial = Trial::new();
    let resource: EventAggregator = serde_json::from_value(trial.api.get(RESOURCE).unwrap()).unwrap();
    let resource = Arc::new(DeserializeGuard(Ok(resource)));
    let invalid = after_failure(resource.clone(), &Error::invalid("spec.x", "is wrong"), trial.context.clone());
    assert_eq!(invalid, Action::await_change());
    let waits: Vec<_> = (0..20).map(|_| trial.context.failed("uid", Instant::now())).collect();
    assert!(waits[0] <= Duration::from_secs(2), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(301)), "{waits:?}");
    assert!(waits[12..].iter().max() > waits[..2].iter().max(), "{waits:?}");
    trial.context.succeeded("uid");
    assert!(trial.context.failed("uid", Instant::now()) <= Duration::from_secs(2));
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_touched() {
    let trial = Trial::new();
    let path = "/api/v1/namespaces/accounts/services/ledger-publisher";
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger-publisher", "namespace": "accounts"}});
    trial.api.put(path, theirs.clone());
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::NameTaken);
    assert!(error.to_string().contains("ledger-publisher"), "{error}");
    assert_eq!(trial.api.get(path), Some(theirs));
}

#[tokio::test]
async fn what_an_earlier_resource_of_the_name_left_is_waited_for() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.api.change(RESOURCE, |resource| resource["metadata"]["uid"] = json!("another"));
    trial.api.calls();
    let error = trial.reconcile().await.unwrap_err();
    assert_eq!(error.reason(), Reason::WaitingForDeletion);
    assert!(!trial.api.writes().iter().any(|call| call.starts_with("APPLY")));
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_removed_by_label_and_uid() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    let theirs = "/apis/networking.k8s.io/v1/namespaces/accounts/networkpolicies/theirs";
    let mut policy = trial.api.get(&theirs.replace("theirs", "ledger-redis")).unwrap();
    policy["metadata"]["name"] = json!("theirs");
    policy["metadata"]["ownerReferences"] = json!([]);
    trial.api.put(theirs, policy);
    trial.api.calls();

    trial.api.change(RESOURCE, |resource| resource["spec"]["networkPolicy"]["enabled"] = json!(false));
    trial.reconcile().await.unwrap();
    let deleted: Vec<_> = trial.api.writes().into_iter().filter(|call| call.starts_with("DELETE")).collect();
    let names = ["aggregator", "default-deny", "postgres", "publisher", "redis"];
    assert_eq!(deleted, names.map(|name| format!("DELETE networkpolicies/ledger-{name}")));
    assert!(trial.api.get(theirs).is_some(), "it has our labels, but no owner");
    for body in trial.api.bodies("DELETE networkpolicies") {
        assert!(body["preconditions"]["uid"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_asks_nothing_of_the_api_server() {
    let trial = Trial::new();
    let text = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator",
        "metadata": {"name": "odd", "namespace": "accounts", "uid": "odd"}, "spec": {"streams": "many"}
    });
    let guarded: DeserializeGuard<EventAggregator> = serde_json::from_value(text).unwrap();
    let guarded = Arc::new(guarded);
    let error = reconcile(guarded.clone(), trial.context.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unparsable);
    assert_eq!(after_failure(guarded, &error, trial.context.clone()), Action::await_change());
    assert_eq!(trial.api.calls(), [""; 0]);
}

#[tokio::test]
async fn a_paused_resource_is_left_as_it_is_and_says_so() {
    let trial = Trial::new();
    trial.api.change(RESOURCE, |resource| resource["spec"]["paused"] = json!(true));
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), ["MERGE eventaggregators/ledger/status", "CREATE events"]);
    assert_eq!(trial.condition("Ready")["status"], "Unknown");
    assert_eq!(trial.condition("Progressing")["reason"], "Paused");
}

#[tokio::test]
async fn a_pod_that_cannot_end_on_a_lost_node_is_named_with_its_node() {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.api.change(&format!("{SETS}/ledger-postgres"), |set| set["status"]["readyReplicas"] = json!(0));
    let pod = "/api/v1/namespaces/accounts/pods/ledger-postgres-0";
    let lost = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "ledger-postgres-0", "namespace": "accounts", "deletionTimestamp": "2025-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/managed-by": "sluice-operator", "app.kubernetes.io/instance": "ledger",
                "app.kubernetes.io/component": "postgres"}
        },
        "spec": {"nodeName": "worker-7", "containers": []},
        "status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
            {"type": "Ready", "status": "False"}
        ]}
    });
    trial.api.put(pod, lost.clone());
    trial.reconcile().await.unwrap();
    let condition = trial.condition("PostgresReady");
    assert_eq!(condition["reason"], "NodeLost", "{condition}");
    let message = condition["message"].as_str().unwrap();
    for part in ["ledger-postgres-0", "worker-7", "node.kubernetes.io/out-of-service"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(trial.condition("Ready")["reason"], "NodeLost");
    assert_eq!(trial.condition("Progressing")["reason"], "Stalled");

    // A pod that was deleted by hand on such a node has no condition of a taint. It runs as far as is known.
    trial.api.change(pod, |pod| {
        let running = json!({"startedAt": "2025-01-01T00:00:00Z"});
        pod["status"] = json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "postgres", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": running}}]
        });
    });
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("PostgresReady")["reason"], "NodeLost");

    // A pod that ends as it should is not reported.
    let mut ending = lost;
    ending["metadata"]["deletionTimestamp"] =
        json!(jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string());
    trial.api.put(pod, ending);
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("PostgresReady")["reason"], "Starting");
}

#[tokio::test]
async fn more_aggregators_than_the_database_has_connections_for_are_refused_by_field() {
    let refusal = async |change: fn(&mut Value)| {
        let trial = Trial::new();
        trial.api.change(RESOURCE, |resource| {
            // 4 workers and 8 other connections each; 25 MiB are enough for 5 connections, and there are at least 40.
            resource["spec"]["postgres"]["managed"]["memory"] = json!("512Mi");
            change(&mut resource["spec"]["aggregator"]);
        });
        trial.reconcile().await.err().map(|error| (error.reason(), error.to_string()))
    };
    assert_eq!(refusal(|aggregator| aggregator["replicas"] = json!(8)).await, None, "8 x 12 + 5 = 101 of 102");
    let (reason, message) = refusal(|aggregator| aggregator["replicas"] = json!(9)).await.unwrap();
    assert_eq!(reason, Reason::Invalid);
    for part in [
        "spec.postgres.managed.memory",
        "102 connections",
        "565Mi",
        "spec.aggregator.replicas",
        "spec.aggregator.workers",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let scaling = |aggregator: &mut Value| aggregator["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 9});
    let (_, message) = refusal(scaling).await.unwrap();
    assert!(message.contains("spec.aggregator.autoscaling.maxReplicas"), "{message}");
    let (_, message) = refusal(|aggregator| aggregator["replicas"] = json!(900)).await.unwrap();
    assert!(!message.contains("raise it") && message.contains("at most 1000"), "{message}");
}
