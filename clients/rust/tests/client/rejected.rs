//! Events that the server refuses, among others that it accepts.

use std::time::Duration;

use serde_json::json;
use sluice_client::{Client, Delivery, Event, Outcome, Rejection, SendError};

use crate::proxy::Proxy;
use crate::security::Tokens;
use crate::server::Server;
use crate::wait::{PATIENCE, outcome};

/// Longer than any test takes: all events are one batch, which is sent by a flush.
const FOREVER: Duration = Duration::from_secs(3_600);

fn good(number: usize) -> Event {
    Event::new("t", &json!(number)).unwrap().event_id(format!("good-{number}"))
}

fn bad() -> Event {
    Event::new("t", &json!(1)).unwrap().event_id(" ")
}

/// Sends the events as one batch, and returns their outcomes in order.
async fn outcomes_of(client: &Client, events: impl IntoIterator<Item = Event>) -> Vec<Outcome> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for event in events {
        deliveries.push(client.send(event).await.unwrap());
    }
    client.flush(PATIENCE).await.unwrap();
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(outcome(delivery).await);
    }
    outcomes
}

async fn one_batch(url: String) -> Client {
    Client::builder(url).batch_events(10_000).linger(FOREVER).build().await.unwrap()
}

fn reason(outcome: &Outcome) -> &Rejection {
    let Outcome::Rejected(reason) = outcome else { panic!("it is {outcome:?}") };
    reason
}

#[tokio::test]
async fn rejected_events_are_reported_to_their_senders_and_the_others_are_stored() {
    let server = Server::start().await;
    let client = one_batch(server.url()).await;
    let twice = Event::with_json("t", "{\"a\":1,\"a\":2}").unwrap().event_id("twice");
    let outcomes = outcomes_of(&client, [good(0), bad(), good(1), twice, good(2)]).await;
    for number in [0, 2, 4] {
        assert_eq!(outcomes[number], Outcome::Delivered);
    }
    for (number, field) in [(1, "event_id"), (3, "payload")] {
        let Rejection { status, code, field: found, detail } = reason(&outcomes[number]);
        assert_eq!((*status, code.as_str(), found.as_deref()), (202, "invalid_event", Some(field)));
        assert!(!detail.is_empty());
    }
    assert_eq!(server.counts().await, (3, 3));
    assert_eq!((client.stats().delivered, client.stats().rejected), (3, 2));
}

#[tokio::test]
async fn each_of_more_errors_than_an_answer_lists_is_reported() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let client = one_batch(proxy.url()).await;
    let is_bad = |number: &usize| !number.is_multiple_of(3);
    let outcomes =
        outcomes_of(&client, (0..400).map(|number| if is_bad(&number) { bad() } else { good(number) })).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        if is_bad(&number) {
            assert_eq!(reason(outcome).field.as_deref(), Some("event_id"), "{number}");
        } else {
            assert_eq!(*outcome, Outcome::Delivered, "{number}");
        }
    }
    assert_eq!(server.events("t").await.len(), 134);
    // What was sent again to learn the outcomes is a duplicate, and only what is behind the errors that were listed is.
    let requests: Vec<_> = proxy.seen().iter().map(|seen| seen.events()).collect();
    assert_eq!(requests, [400, 250, 100]);
    let (received, unique) = server.counts().await;
    assert_eq!((received, unique), (134 + 84 + 34, 134));
}

#[tokio::test]
async fn a_batch_without_a_good_event_is_reported_event_by_event() {
    let server = Server::start().await;
    let client = one_batch(server.url()).await;
    let outcomes = outcomes_of(&client, (0..250).map(|_| bad())).await;
    assert!(outcomes.iter().all(|outcome| reason(outcome).field.as_deref() == Some("event_id")), "{outcomes:?}");
    assert_eq!(server.counts().await, (0, 0));
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_server_is_divided_and_each_event_counts_once() {
    let server = Server::with(&["--max-events", "10", "--max-body-bytes", "2KiB"]).await;
    let client = one_batch(server.url()).await;
    let outcomes = outcomes_of(&client, (0..100).map(good)).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered), "{outcomes:?}");
    assert_eq!(server.counts().await, (100, 100));
}

#[tokio::test]
async fn an_event_of_a_topic_that_the_token_is_not_for_does_not_refuse_the_others() {
    let tokens = Tokens::new("topics: [t]");
    let server = Server::with(&["--tokens", tokens.file()]).await;
    let builder = Client::builder(server.url()).token(Tokens::FIRST).linger(FOREVER);
    let client = builder.build().await.unwrap();
    let other = Event::new("other", &json!(1)).unwrap();
    let events = (0..20).map(good).chain([other]).chain((20..30).map(good));
    let outcomes = outcomes_of(&client, events).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        if number == 20 {
            assert_eq!((reason(outcome).status, reason(outcome).code.as_str()), (403, "topic_not_allowed"));
        } else {
            assert_eq!(*outcome, Outcome::Delivered, "{number}");
        }
    }
    assert_eq!(client.stats().delivered, 30);
}

#[tokio::test]
async fn a_timestamp_that_is_too_old_does_not_refuse_the_others() {
    let server = Server::with(&["--max-age", "1h"]).await;
    let client = one_batch(server.url()).await;
    let old = good(100).timestamp("2020-01-01T00:00:00Z");
    let outcomes = outcomes_of(&client, (0..7).map(good).chain([old]).chain((7..9).map(good))).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        if number == 7 {
            assert_eq!(reason(outcome).field.as_deref(), Some("timestamp"));
        } else {
            assert_eq!(*outcome, Outcome::Delivered, "{number}");
        }
    }
    assert_eq!(server.counts().await, (9, 9));
}

#[tokio::test]
async fn an_event_that_is_larger_than_a_batch_is_not_taken() {
    let client = Client::builder("http://127.0.0.1:1").batch_bytes(1024).build().await.unwrap();
    let error = client.send(Event::new("t", &"x".repeat(1024)).unwrap()).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { limit: 1024, .. }), "{error}");
    assert_eq!(client.stats().sent, 0);
}
