//! Bodies with an event on each line.

use serde_json::json;
use sluice_tests::Answer;

use crate::fixture::{Fixture, event};

/// Publishes a body with an event on each line.
async fn publish(fixture: &Fixture, body: String) -> Answer {
    let request = fixture.client.request("POST", "/publish").header("content-type", "application/x-ndjson");
    fixture.client.send(request.body(body)).await
}

#[tokio::test]
async fn each_line_is_an_event_and_a_bad_line_refuses_the_request_and_is_named() {
    let fixture = Fixture::start(&[]).await;
    // The second body is parsed on a thread of its own.
    for count in [3, 2_000] {
        let lines: String = (0..count).map(|n| format!("{}\r\n\n", event(n))).collect();
        let answer = publish(&fixture, lines).await.assert_status(202);
        assert_eq!(answer.json(), json!({"status": "accepted", "count": count}));
    }
    let stored = fixture.event_ids().await;
    assert_eq!(stored.len(), 2_003);
    assert_eq!(stored[..4], ["0", "1", "2", "0"]);

    let bad = format!("{}\n\n{}\n", event("good"), json!({"id": "bad", "payload": 1, "topic": " "}));
    let problem = publish(&fixture, bad).await.assert_problem(422, "invalid_event");
    assert_eq!((&problem["index"], &problem["field"]), (&json!(1), &json!("topic")), "{problem}");
    assert_eq!(problem["detail"], "line 3, events[1].topic: must not be blank");
    let broken = format!("{}\n{{\"id\":\n", event("good"));
    let problem = publish(&fixture, broken).await.assert_problem(400, "malformed_json");
    assert_eq!(problem["index"], 1, "{problem}");
    assert_eq!(fixture.event_ids().await.len(), 2_003, "nothing of a refused request is stored");
}
