//! Who may do what: subject × route × topic, as a table of statuses.

use std::collections::BTreeSet;

use serde_json::json;
use sluice_tests::{Backend, Client};

use super::{TokenFile, start};
use crate::common::event;

on_both_backends!(each_subject_gets_what_its_scopes_and_topics_allow_and_nothing_else);

/// The settings of the token of each subject, in the order of the columns.
const SUBJECTS: [&str; 6] = [
    "--name publisher --scope publish",
    "--name orders-publisher --scope publish --topic orders.*",
    "--name reader --scope read",
    "--name orders-reader --scope read --topic orders.*",
    "--name admin --scope admin",
    "--name all --scope publish --scope read --scope admin",
];

/// The statuses of the answers to a request: without a token, with one that is not accepted, with one that has expired,
/// and with the token of each subject. The topics after a path are those of the events that are published.
const TABLE: [([u16; 9], &str); 25] = [
    // none, wrong, expired, publisher, orders-publisher, reader, orders-reader, admin, all
    ([401, 401, 401, 202, 202, 403, 403, 403, 202], "POST /publish orders.eu"),
    ([401, 401, 401, 202, 403, 403, 403, 403, 202], "POST /publish users"),
    ([401, 401, 401, 202, 403, 403, 403, 403, 202], "POST /publish orders.eu users"),
    ([401, 401, 401, 202, 403, 403, 403, 403, 202], "POST /publish orders"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /events"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /events/orders.eu/first"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /topics"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /stats"),
    ([401, 401, 401, 403, 403, 403, 403, 404, 404], "DELETE /events/orders.eu/none"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /conflicts"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /dead-letters"),
    ([401, 401, 401, 403, 403, 403, 403, 200, 200], "POST /dead-letters/replay"),
    ([401, 401, 401, 403, 403, 403, 403, 404, 404], "POST /dead-letters/7/replay"),
    ([401, 401, 401, 403, 403, 403, 403, 404, 404], "DELETE /dead-letters/7"),
    ([401, 401, 401, 200, 200, 200, 200, 200, 200], "GET /openapi.json"),
    ([401, 401, 401, 403, 403, 403, 403, 200, 200], "GET /metrics"),
    ([401, 401, 401, 403, 403, 403, 403, 404, 404], "GET /nowhere"),
    ([401, 401, 401, 204, 204, 204, 204, 204, 204], "OPTIONS /events"),
    ([401, 401, 401, 204, 204, 204, 204, 204, 204], "OPTIONS /metrics"),
    ([401, 401, 401, 404, 404, 404, 404, 404, 404], "OPTIONS /nowhere"),
    ([401, 401, 401, 403, 403, 200, 200, 403, 200], "GET /overview"),
    ([200, 200, 200, 200, 200, 200, 200, 200, 200], "GET /"),
    ([200, 200, 200, 200, 200, 200, 200, 200, 200], "GET /ui/app.js"),
    ([200, 200, 200, 200, 200, 200, 200, 200, 200], "GET /healthz"),
    ([200, 200, 200, 200, 200, 200, 200, 200, 200], "GET /readyz"),
];

async fn each_subject_gets_what_its_scopes_and_topics_allow_and_nothing_else(backend: Backend) {
    let file = TokenFile::new();
    let mut tokens = vec![
        None,
        Some("sluice_0123456789".to_owned()),
        Some(file.add("--name over --scope publish --scope read --scope admin --expires 2020-01-01T00:00:00Z").await),
    ];
    for settings in SUBJECTS {
        tokens.push(Some(file.add(settings).await));
    }
    let mut system = start(backend, &file).await;
    let of = |client: &Client, token: &Option<String>| match token {
        Some(token) => client.with_token(token),
        None => client.clone(),
    };
    let nobody = system.client.clone();
    system.client = of(&nobody, tokens.last().expect("the subject with all scopes"));
    system.publish_and_wait(0, &event("orders.eu", "first")).await;

    let mut expected = BTreeSet::from(["first".to_owned()]);
    let mut cells = 0;
    for (statuses, request) in TABLE {
        for (column, (token, status)) in tokens.iter().zip(statuses).enumerate() {
            let mut words = request.split(' ');
            let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
            let mut builder = of(&nobody, token).request(method, path);
            let ids: Vec<_> = words.enumerate().map(|(n, topic)| (topic, format!("{request} {column} {n}"))).collect();
            if !ids.is_empty() {
                let body: Vec<_> = ids.iter().map(|(topic, id)| event(topic, id)).collect();
                builder = builder.header("Content-Type", "application/json").body(json!(body).to_string());
            }
            let answer = nobody.send(builder).await;
            let context = format!("{request}, column {column}: {}", answer.text);
            assert_eq!(answer.status, status, "{context}");
            check_refusal(&answer, token.is_some(), &context);
            if status == 202 {
                expected.extend(ids.into_iter().map(|(_, id)| id));
            }
            cells += 1;
        }
    }
    assert!(cells >= 60, "{cells} cells");

    // What was accepted is stored, and nothing of what was refused.
    system.wait_until_stored(expected.len() as u64).await;
    let events = system.client.get_json("/events?limit=1000").await;
    let stored = events["events"].as_array().expect("events").iter();
    let stored: BTreeSet<_> = stored.map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(stored, expected);

    // An aggregator that is asked without the publisher decides the same.
    for program in &system.aggregators {
        let aggregator = Client::new(&program.base());
        for (statuses, request) in TABLE.iter().filter(|(_, request)| !request.contains("publish")) {
            let (method, path) = request.split_once(' ').expect("a method and a path");
            for (token, status) in tokens.iter().zip(statuses) {
                let answer = aggregator.send(of(&aggregator, token).request(method, path)).await;
                assert_eq!(answer.status, *status, "{request} at the aggregator with {token:?}: {}", answer.text);
            }
        }
    }
}

/// Checks that a refusal is a problem that says what is missing and how to authenticate.
fn check_refusal(answer: &sluice_tests::Answer, has_token: bool, context: &str) {
    let challenge = answer.headers.get("www-authenticate").map(|value| value.to_str().expect("ASCII"));
    match answer.status {
        401 => {
            answer.assert_problem(401, "unauthorized");
            let sent = r#"Bearer realm="sluice", error="invalid_token""#;
            assert_eq!(challenge, Some(if has_token { sent } else { r#"Bearer realm="sluice""# }), "{context}");
        }
        403 if challenge.is_none() => {
            let problem = answer.assert_problem(403, "topic_not_allowed");
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains("topic \"")), "{context}");
        }
        403 => {
            let problem = answer.assert_problem(403, "missing_scope");
            let named = ["publish", "read", "admin"]
                .into_iter()
                .find(|scope| problem["detail"].as_str().is_some_and(|text| text.contains(&format!("`{scope}`"))));
            let said = format!("error=\"insufficient_scope\", scope=\"{}\"", named.expect("a scope is named"));
            assert!(challenge.is_some_and(|challenge| challenge.ends_with(&said)), "{context}: {challenge:?}");
        }
        _ => assert_eq!(challenge, None, "{context}"),
    }
}
