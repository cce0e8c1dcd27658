//! Erased events, and conflicts that can be read.

use serde_json::{Value, json};
use sluice_tests::{Backend, Client};

use crate::common::{counts, event, list, system};

on_both_backends!(
    an_erased_event_is_listed_without_content_and_stays_a_duplicate,
    what_conflicted_can_be_read_until_it_is_erased,
    what_is_not_there_cannot_be_erased,
);

async fn erase(client: &Client, path: &str) -> Value {
    client.send(client.request("DELETE", path)).await.assert_status(200).json()
}

async fn an_erased_event_is_listed_without_content_and_stays_a_duplicate(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let mut secret = event("people", "a/b ü");
    secret["source"] = "a person".into();
    system.publish_and_wait(0, &json!([secret, event("people", "2")])).await;
    let erased = erase(client, "/events/people/a%2Fb%20%C3%BC").await;
    assert_eq!(erased, json!({"events": 1, "dead_letters": 0, "conflicts": 0}));
    let stored = client.get_json("/events/people/a%2Fb%20%C3%BC").await;
    assert_eq!((&stored["payload"], &stored["source"], &stored["erased"]), (&Value::Null, &Value::Null, &true.into()));
    for page in [list(client, "").await, list(client, "?order=asc").await] {
        let erased: Vec<_> = page.iter().map(|event| event.get("erased").is_some()).collect();
        assert_eq!(erased.iter().filter(|erased| **erased).count(), 1, "{page:?}");
    }
    let snapshot = system.publish_and_wait(2, &json!([secret])).await;
    assert_eq!((snapshot.unique, snapshot.duplicates, snapshot.rows), (2, 1, 2));
    assert_eq!(client.get_json("/stats").await["conflicts"], 0);
    assert_eq!(erase(client, "/events/people/a%2Fb%20%C3%BC").await["events"], 0);
}

async fn what_conflicted_can_be_read_until_it_is_erased(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    system.publish_and_wait(0, &json!([event("t", "1"), event("t", "2")])).await;
    let mut other = event("t", "1");
    other["payload"] = json!({"price": 1.5});
    other["source"] = "s".into();
    system.publish_and_wait(2, &json!([other, event("t", "2")])).await;
    let page = client.get_json("/conflicts").await;
    let conflicts = page["conflicts"].as_array().unwrap();
    assert_eq!((conflicts.len(), &page["next_cursor"]), (1, &Value::Null), "{page}");
    for field in ["topic", "event_id", "payload", "source"] {
        assert_eq!(conflicts[0][field], other[field], "{field} of {page}");
    }
    assert!(conflicts[0]["seen_at"].is_string() && conflicts[0]["request_id"].is_string(), "{page}");
    assert_eq!(client.get_json("/conflicts?topic=u").await["conflicts"], json!([]));
    assert_eq!(client.get_json("/conflicts?topic=t&event_id=1&limit=1").await["conflicts"][0], conflicts[0]);
    client.get("/conflicts?limit=0").await.assert_problem(400, "invalid_query");
    assert_eq!(erase(client, "/events/t/1").await["conflicts"], 1);
    assert_eq!(client.get_json("/conflicts").await["conflicts"], json!([]));
    assert_eq!(counts(client).await, [4, 2, 2]);
}

async fn what_is_not_there_cannot_be_erased(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    system.publish_and_wait(0, &event("t", "1")).await;
    for path in ["/events/t/2", "/events/u/1", "/events/t/%00", "/events/t/%FF"] {
        client.send(client.request("DELETE", path)).await.assert_problem(404, "not_found");
    }
    assert_eq!(client.get_json("/events/t/1").await["payload"], json!({"id": "1"}));
}
