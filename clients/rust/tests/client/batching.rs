//! How events become requests.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_client::{Client, Event, Outcome};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::wait::{PATIENCE, holds, outcome, wait_until};

/// Longer than any test takes: what is sent earlier was not sent because of the time.
const FOREVER: Duration = Duration::from_secs(3_600);

fn event(number: usize) -> Event {
    Event::new("t", &json!({"number": number})).unwrap().event_id(number.to_string())
}

#[tokio::test]
async fn a_batch_is_sent_when_it_has_its_number_of_events() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let client = Client::builder(proxy.url()).batch_events(10).linger(FOREVER).build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..30 {
        deliveries.push(client.send(event(number)).await.unwrap());
    }
    for delivery in deliveries {
        assert_eq!(outcome(delivery).await, Outcome::Delivered);
    }
    let sizes: Vec<_> = proxy.seen().iter().map(|seen| seen.events()).collect();
    assert_eq!(sizes, [10, 10, 10]);
    assert_eq!(server.events("t").await.len(), 30);
}

#[tokio::test]
async fn a_batch_is_sent_before_it_has_more_than_its_bytes() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let client = Client::builder(proxy.url()).batch_bytes(1024).linger(FOREVER).in_flight(1).build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..50 {
        deliveries.push(client.send(event(number)).await.unwrap());
    }
    client.flush(PATIENCE).await.unwrap();
    for delivery in deliveries {
        assert_eq!(outcome(delivery).await, Outcome::Delivered);
    }
    let seen = proxy.seen();
    let sizes: Vec<_> = seen.iter().map(|seen| seen.body.len()).collect();
    let one = sizes.iter().sum::<usize>() / 50 + 2;
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.iter().all(|size| (1024 - one..=1024).contains(size)) && *last <= 1024, "{sizes:?}");
    assert_eq!(server.events("t").await.len(), 50);
}

#[tokio::test]
async fn a_batch_is_sent_when_its_first_event_has_waited_long_enough() {
    let server = Server::start().await;
    let linger = Duration::from_millis(200);
    let client = Client::builder(server.url()).linger(linger).build().await.unwrap();
    let began = Instant::now();
    let delivery = client.send(event(1)).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    assert!(began.elapsed() >= linger, "it did not wait for others: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_flush_does_not_wait_for_more_events() {
    let server = Server::start().await;
    let client = Client::builder(server.url()).linger(FOREVER).build().await.unwrap();
    let delivery = client.send(event(1)).await.unwrap();
    client.flush(PATIENCE).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    assert_eq!(client.stats().waiting_events, 0);
}

#[tokio::test]
async fn a_client_that_is_closed_has_sent_what_it_had_and_takes_no_more() {
    let server = Server::start().await;
    let client = Client::builder(server.url()).linger(FOREVER).build().await.unwrap();
    let delivery = client.send(event(1)).await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    let refused = client.send(event(2)).await.unwrap_err();
    assert!(matches!(refused, sluice_client::SendError::Closed), "{refused}");
    assert_eq!((client.stats().sent, client.stats().delivered), (1, 1));
}

#[tokio::test]
async fn as_many_batches_as_are_allowed_are_on_their_way_at_the_same_time() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.pass_only(0);
    let client = Client::builder(proxy.url()).batch_events(1).in_flight(3).build().await.unwrap();
    for number in 0..10 {
        client.send(event(number)).await.unwrap();
    }
    wait_until("three requests are on their way", async || holds(proxy.held() == 3, proxy.held())).await;
    for passed in 1..=7 {
        proxy.pass_only(1);
        wait_until("another one takes the place", async || {
            holds(proxy.held() == 3 && proxy.seen().len() == 3 + passed, proxy.seen().len())
        })
        .await;
    }
    proxy.pass_all();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.events("t").await.len(), 10);
}

#[tokio::test]
async fn fields_are_stored_as_given_and_missing_ones_are_generated() {
    let server = Server::start().await;
    let client = Client::builder(server.url()).build().await.unwrap();
    let given = Event::with_json("t", "{\n  \"n\": 1.50\n}").unwrap().source("shop");
    let given = given.event_id("given").timestamp("2026-01-31T13:00:00+01:00");
    client.send(given).await.unwrap();
    let generated = client.send(Event::new("t", &json!(null)).unwrap()).await.unwrap();
    let id = generated.event_id().to_owned();
    client.close(PATIENCE).await.unwrap();
    let events = server.events("t").await;
    assert_eq!(events.len(), 2);
    assert_eq!(events["given"]["timestamp"], "2026-01-31T12:00:00Z");
    assert_eq!(events["given"]["source"], "shop");
    assert_eq!(events["given"]["payload"]["n"].to_string(), "1.5");
    assert!(events[&id]["payload"].is_null() && events[&id]["source"].is_null(), "{}", events[&id]);
}
