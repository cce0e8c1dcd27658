//! What a token that is bounded by topics reads, from the publisher to the rows.

use serde_json::{Value, json};
use sluice_tests::Backend;

use super::{TokenFile, start};
use crate::common::{event, events, list};

on_both_backends!(a_token_for_some_topics_reads_and_counts_these_alone);

async fn a_token_for_some_topics_reads_and_counts_these_alone(backend: Backend) {
    let file = TokenFile::new();
    let all = file.add("--name all --scope publish --scope read").await;
    let orders = file.add("--name orders --scope publish --scope read --topic orders.*").await;
    let mut system = start(backend, &file).await;
    let bounded = system.client.with_token(&orders);
    system.client = system.client.with_token(&all);
    system.publish_and_wait(0, &events("users", 0..50)).await;
    system.publish_and_wait(50, &json!([event("orders.eu", "1"), event("orders.us", "1"), event("orders", "1")])).await;
    bounded.publish(&event("orders.eu", "2")).await;
    system.wait_until_stored(54).await;

    let listed = list(&bounded, "").await;
    let theirs: Vec<_> = listed.iter().map(|event| (&event["topic"], &event["event_id"])).collect();
    let expected = [("orders.eu", "2"), ("orders.us", "1"), ("orders.eu", "1")].map(|(t, id)| (json!(t), json!(id)));
    assert!(theirs.iter().copied().eq(expected.iter().map(|(topic, id)| (topic, id))), "{listed:?}");
    let names = |value: &Value| value["topics"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let stats = bounded.get_json("/stats").await;
    assert_eq!((&stats["received"], names(&stats)), (&json!(3), vec!["orders.eu".to_owned(), "orders.us".to_owned()]));
    assert_eq!(bounded.get_json("/topics").await["topics"].as_array().unwrap().len(), 2);
    for path in ["/events?topic=users", "/events/users/evt-1", "/events/orders/1"] {
        bounded.get(path).await.assert_problem(403, "topic_not_allowed");
    }
    assert_eq!(system.client.get_json("/stats").await["received"], 54);
}
