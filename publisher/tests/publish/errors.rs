//! A request that is refused, or accepted in part, names its errors.

use serde_json::{Value, json};

use sluice_tests::Answer;

use crate::fixture::{Fixture, event};

/// Publishes what is good of a body.
async fn publish_part(fixture: &Fixture, key: &str, kind: &str, body: String) -> Answer {
    let request = fixture.client.request("POST", "/publish?partial=true").header("content-type", kind);
    fixture.client.send(request.header("idempotency-key", key).body(body)).await
}

/// Returns events of which each second one has no payload.
fn half_bad(count: usize) -> Vec<Value> {
    (0..count).map(|n| if n % 2 == 0 { event(n) } else { json!({"id": n.to_string()}) }).collect()
}

#[tokio::test]
async fn a_refused_request_names_its_first_hundred_errors_and_counts_all() {
    let fixture = Fixture::start(&[]).await;
    let problem = fixture.client.publish_raw(json!(half_bad(6)).to_string()).await;
    let problem = problem.assert_problem(422, "invalid_event");
    let errors: Vec<_> = [1, 3, 5]
        .map(|index| {
            let detail = format!("events[{index}].payload: is missing; null is a payload too");
            json!({"index": index, "field": "payload", "code": "invalid_event", "detail": detail})
        })
        .into();
    assert_eq!((&problem["errors"], &problem["error_count"]), (&json!(errors), &json!(3)), "{problem}");
    for member in ["index", "field", "code", "detail"] {
        assert_eq!(problem[member], errors[0][member], "the members of the first error");
    }
    let problem = fixture.client.publish_raw(json!(half_bad(500)).to_string()).await;
    let problem = problem.assert_problem(422, "invalid_event");
    assert_eq!((problem["errors"].as_array().map(Vec::len), &problem["error_count"]), (Some(100), &json!(250)));
    assert_eq!(fixture.entries(0).await.len(), 0);
}

#[tokio::test]
async fn the_good_events_of_a_partial_request_are_stored_and_a_repetition_gets_the_same_answer() {
    let fixture = Fixture::start(&[]).await;
    let body = json!(half_bad(5)).to_string();
    let first = publish_part(&fixture, "a", "application/json", body.clone()).await.assert_status(202).json();
    assert_eq!((&first["count"], &first["rejected"]), (&json!(3), &json!(2)), "{first}");
    let indexes: Vec<_> = first["errors"].as_array().unwrap().iter().map(|error| error["index"].clone()).collect();
    assert_eq!(indexes, [1, 3]);
    let again = publish_part(&fixture, "a", "application/json", body).await.assert_status(202);
    assert_eq!(again.json(), first);
    let receipts: Vec<_> = fixture.entries(0).await.into_iter().flat_map(|entry| entry.requests).collect();
    for (_, receipt, ids) in &receipts {
        assert_eq!((receipt, ids.as_slice()), (&receipts[0].1, &["0".to_owned(), "2".into(), "4".into()][..]));
    }
    let lines = format!("{}\nnonsense\n", event("line"));
    let answer = publish_part(&fixture, "b", "application/x-ndjson", lines).await.assert_status(202).json();
    assert_eq!((&answer["count"], &answer["errors"][0]["code"]), (&json!(1), &json!("malformed_json")), "{answer}");
    let answer = publish_part(&fixture, "c", "application/json", event("x").to_string()).await.assert_status(202);
    assert_eq!(answer.json(), json!({"status": "accepted", "count": 1, "rejected": 0, "errors": []}));
}

#[tokio::test]
async fn a_partial_request_without_a_good_event_or_with_a_broken_body_is_refused() {
    let fixture = Fixture::start(&[]).await;
    for (body, status, code) in [
        (r#"[{"id":"1"},{"id":"2"}]"#, 422, "invalid_event"),
        (r#"[{"id":"1","payload":1},{"id":"2"},"#, 422, "invalid_event"),
        (r#"[{"id":"1","payload":1},"#, 400, "malformed_json"),
        ("[]", 422, "invalid_event"),
    ] {
        publish_part(&fixture, "k", "application/json", body.into()).await.assert_problem(status, code);
    }
    assert_eq!(fixture.entries(0).await.len(), 0);
}
