//! `status`.

use serde_json::{Value, json};

use crate::desk::{Desk, condition, path, ready};

#[tokio::test]
async fn a_resource_that_is_ready_is_shown_with_its_facts_and_exits_with_0() {
    let desk = Desk::new();
    desk.put_pod("ledger-aggregator-0", "aggregator", ready());
    desk.put_pod("ledger-aggregator-1", "aggregator", json!({"phase": "Pending"}));
    let done = desk.run("status ledger").await;
    assert_eq!(done.code, 0, "{done:?}");
    for expected in [
        "accounts/ledger: Ready\n",
        "endpoint         http://ledger-publisher.accounts.svc:8080\n",
        "replicas         2 of 2, autoscaled from 1 to 5\n",
        "ready pods       aggregator 1/2\n",
        "backlog          7\n",
        "volumes          redis 8Gi\n",
        "deletion policy  Retain\n",
        "received 10 = stored 8 + duplicates 2 (conflicts 1); dead letters 3; backlog 7\n",
    ] {
        assert!(done.out.contains(expected), "{expected}\n{}", done.out);
    }
    assert!(!done.out.contains("AggregatorReady"), "what is well is not listed: {}", done.out);
}

#[tokio::test]
async fn what_the_topology_promises_is_a_fact_and_no_fault() {
    let desk = Desk::new();
    desk.change(|resource| {
        let conditions = resource["status"]["conditions"].as_array_mut().unwrap();
        conditions.push(condition("Durable", "False", "SingleNode", "Redis is one pod"));
    });
    let done = desk.run("status ledger").await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("durable          False (SingleNode)\n"), "{}", done.out);
    assert!(!done.out.contains("not as they should be"), "{}", done.out);
}

#[tokio::test]
async fn conditions_that_are_not_as_they_should_be_are_shown_in_words_and_exit_with_3() {
    let desk = Desk::new();
    desk.change(|resource| {
        resource["status"]["conditions"] = json!([
            condition("Ready", "False", "SecretMissing", "Secret cache does not exist"),
            condition("Progressing", "False", "Stalled", "it will not become ready by itself"),
            condition("RedisReady", "False", "SecretMissing", "Secret cache does not exist"),
            condition("PublisherReady", "True", "Ready", "2 pods are ready"),
        ]);
    });
    let done = desk.run("status ledger").await;
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.out.starts_with("accounts/ledger: NOT READY (SecretMissing): Secret cache does not exist\n"));
    let listed = done.out.split("Conditions that are not as they should be:\n").nth(1).unwrap();
    let kinds: Vec<_> = listed.lines().take(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(kinds, ["Ready", "Progressing", "RedisReady"], "{}", done.out);
    assert!(!done.out.contains("PublisherReady"), "{}", done.out);
}

#[tokio::test]
async fn pods_with_problems_are_named_with_the_reason_that_the_operator_finds() {
    let desk = Desk::new();
    let waiting = json!({"reason": "ImagePullBackOff", "message": "no such image"});
    let status = json!({"phase": "Pending", "containerStatuses": [
        {"name": "publisher", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": waiting}}]});
    desk.put_pod("ledger-publisher-a", "publisher", status);
    let done = desk.run("status ledger").await;
    let listed = done.out.split("Pods with problems:\n").nth(1).unwrap();
    let line = listed.lines().next().unwrap();
    assert!(line.contains("ImagePullBackOff") && line.contains("ledger-publisher-a"), "{line}");
}

#[tokio::test]
async fn a_status_of_an_older_spec_says_so_and_is_not_taken_for_ready() {
    let desk = Desk::new();
    desk.change(|resource| resource["metadata"]["generation"] = json!(5));
    let done = desk.run("status ledger").await;
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.out.contains("The operator has not seen the last change of the spec"), "{}", done.out);
}

#[tokio::test]
async fn the_programs_that_do_not_tell_are_no_zero_and_the_reason_is_shown() {
    let desk = Desk::new();
    desk.change(|resource| resource["status"]["totals"] = Value::Null);
    let done = desk.run("status ledger").await;
    let expected =
        "because the programs do not tell: it has no publisher pods (kubectl sluice status says why)):\n  unknown\n";
    assert!(done.out.contains(expected), "{}", done.out);
}

#[tokio::test]
async fn the_latest_events_about_the_resource_come_first_and_no_others() {
    let desk = Desk::new();
    desk.put_event("ledger", "Older", "the first", "2026-01-01T00:00:00Z");
    desk.put_event("ledger", "Newer", "the second\u{1b}[2J", "2026-01-02T00:00:00Z");
    desk.put_event("other", "Foreign", "of another", "2026-01-03T00:00:00Z");
    let done = desk.run("status ledger").await;
    let listed: Vec<_> = done.out.split("Latest events about it:\n").nth(1).unwrap().lines().collect();
    assert!(listed[0].contains("×3  Warning  Newer  the second [2J"), "{}", done.out);
    assert!(listed[1].contains("Older"), "{}", done.out);
    assert_eq!(listed.len(), 2, "{}", done.out);
    let done = desk.run("status ledger --events 1").await;
    assert!(!done.out.contains("Older"), "{}", done.out);
}

#[tokio::test]
async fn programs_read_the_same_as_json() {
    let desk = Desk::new();
    desk.change(|resource| resource["spec"]["paused"] = json!(true));
    let done = desk.run("status ledger -o json").await;
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&report["name"], &report["ready"]["status"]), (&json!("ledger"), &json!("True")));
    assert_eq!((&report["paused"], &report["statistics"]["totals"]["uniqueProcessed"]), (&json!(true), &json!(8)));
    assert_eq!(report["conditions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_name_all_resources_are_in_a_table_also_one_that_cannot_be_parsed() {
    let desk = Desk::new();
    desk.api.put(
        &path("broken"),
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "EventAggregator",
            "metadata": {"name": "broken", "namespace": "accounts"}, "spec": {"streams": "many"},
            "status": {"conditions": [condition("Ready", "False", "Unparsable", "streams is no number")]}
        }),
    );
    let done = desk.run("status").await;
    let lines: Vec<_> = done.out.lines().collect();
    assert!(lines[0].starts_with("NAME    READY  REASON      REPLICAS  BACKLOG"), "{}", done.out);
    assert!(lines[1].starts_with("broken  False  Unparsable  unknown   unknown"), "{}", done.out);
    assert!(lines[1].ends_with("streams is no number") && lines[2].starts_with("ledger  True   AllReady"));
    assert_eq!(done.code, 0);
}

#[tokio::test]
async fn a_resource_that_does_not_exist_and_an_api_that_refuses_are_named() {
    let desk = Desk::new();
    let done = desk.run("status lodger").await;
    assert_eq!(done.code, 1);
    assert!(done.err.starts_with("error: eventaggregator accounts/lodger: there is none of this name"), "{}", done.err);
    desk.api.refuse_saying("LIST pods", 403, "pods is forbidden: User \"eve\" cannot list resource \"pods\"");
    let done = desk.run("status ledger").await;
    let expected = "error: eventaggregator accounts/ledger: cannot list its pods: pods is forbidden: User \"eve\"";
    assert!(done.err.starts_with(expected), "{}", done.err);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_ends_the_command_with_5() {
    let desk = Desk::new();
    desk.api.delay("GET eventaggregators", std::time::Duration::from_secs(60));
    let done = desk.run("--request-timeout 1s status ledger").await;
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.err.contains("the API server did not answer within 1s"), "{}", done.err);
}
