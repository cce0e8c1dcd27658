//! Requests that are not answered, or with a status that asks for a repetition.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_client::{Client, Event, Outcome};

use crate::proxy::{Fault, Proxy, Seen};
use crate::server::Server;
use crate::wait::{PATIENCE, holds, outcome, wait_until};

const MS: Duration = Duration::from_millis(1);

fn event(number: usize) -> Event {
    Event::new("t", &json!({"number": number})).unwrap().event_id(number.to_string())
}

async fn client_of(url: String) -> Client {
    Client::builder(url).linger(5 * MS).backoff(MS, 20 * MS).build().await.unwrap()
}

#[tokio::test]
async fn a_request_without_an_answer_is_repeated_under_the_same_key_and_counts_once() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.next(&[Fault::LoseAnswer, Fault::CutAnswer, Fault::LoseRequest, Fault::LoseAnswer]);
    let client = client_of(proxy.url()).await;
    // Neither the timestamp nor the id may be generated anew.
    let delivery = client.send(Event::new("t", &json!({"value": 1})).unwrap()).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 5);
    assert!(!seen[0].key.is_empty() && seen.iter().all(|repeated| repeated.key == seen[0].key), "{seen:?}");
    assert!(seen.iter().all(|repeated| repeated.body == seen[0].body), "{seen:?}");
    let stats = server.stats().await;
    assert_eq!((&stats["received"], &stats["duplicate_dropped"]), (&json!(1), &json!(0)), "{stats}");
    assert_eq!((client.stats().repeated, client.stats().delivered), (4, 1));
    assert!(client.stats().last_failure.is_some());
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_is_repeated_and_counts_once() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.pass_only(0);
    let builder = Client::builder(proxy.url()).linger(MS).backoff(MS, 20 * MS);
    let client = builder.request_timeout(200 * MS).build().await.unwrap();
    let delivery = client.send(event(1)).await.unwrap();
    wait_until("it is repeated", async || holds(proxy.seen().len() >= 3, proxy.seen())).await;
    proxy.pass_all();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    // Those that were given up arrive late.
    wait_until("all have passed", async || holds(proxy.held() == 0, proxy.held())).await;
    assert!(proxy.seen().iter().all(|repeated| repeated.key == proxy.seen()[0].key));
    assert_eq!(server.counts().await, (1, 1));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up_before_it_fills_the_memory() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.next(&[Fault::LongAnswer]);
    let client = client_of(proxy.url()).await;
    let delivery = client.send(event(1)).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    let failure = client.stats().last_failure.unwrap();
    assert!(failure.contains("the answer has more than"), "{failure}");
    assert_eq!(server.counts().await, (1, 1));
}

#[tokio::test]
async fn each_batch_has_a_key_of_its_own() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let client = Client::builder(proxy.url()).batch_events(1).build().await.unwrap();
    for number in 0..20 {
        client.send(event(number)).await.unwrap();
    }
    client.close(PATIENCE).await.unwrap();
    let keys: BTreeSet<_> = proxy.seen().into_iter().map(|seen| seen.key).collect();
    assert_eq!(keys.len(), 20);
    assert_eq!(server.counts().await, (20, 20));
}

#[tokio::test]
async fn a_request_is_not_repeated_before_the_time_that_retry_after_asks_for() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.next(&[Fault::Answer(429, "2"), Fault::Answer(503, "1"), Fault::Answer(500, "")]);
    let client = client_of(proxy.url()).await;
    let delivery = client.send(event(1)).await.unwrap();
    assert_eq!(outcome(delivery).await, Outcome::Delivered);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen[1].at - seen[0].at >= 2_000 * MS, "{:?}", seen[1].at - seen[0].at);
    assert!(seen[2].at - seen[1].at >= 1_000 * MS, "{:?}", seen[2].at - seen[1].at);
    assert!(seen.iter().all(|repeated| repeated.key == seen[0].key && repeated.body == seen[0].body));
    assert_eq!(server.counts().await, (1, 1));
}

#[tokio::test]
async fn a_refusal_that_stays_is_not_repeated() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.next(&[Fault::Answer(404, "")]);
    let client = Client::builder(proxy.url()).batch_events(3).linger(PATIENCE).build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..3 {
        deliveries.push(client.send(event(number)).await.unwrap());
    }
    for delivery in deliveries {
        let Outcome::Rejected(reason) = outcome(delivery).await else { panic!("it was not rejected") };
        assert_eq!((reason.status, reason.code.as_str(), reason.field), (404, "of_the_proxy", None));
    }
    assert_eq!(proxy.seen().len(), 1);
    assert_eq!((client.stats().rejected, client.stats().repeated), (3, 0));
}

#[tokio::test]
async fn a_client_that_is_closed_gives_up_at_the_deadline() {
    let server = Server::stopped(&[]);
    let client = client_of(server.url()).await;
    let delivery = client.send(event(1)).await.unwrap();
    wait_until("an attempt failed", async || holds(client.stats().last_failure.is_some(), client.stats())).await;
    let began = Instant::now();
    let unanswered = client.close(300 * MS).await.unwrap_err();
    assert!((300 * MS..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(unanswered.events, 1);
    assert!(unanswered.last_failure.is_some(), "{unanswered}");
    assert_eq!(outcome(delivery).await, Outcome::Unanswered);
}

#[tokio::test]
async fn a_client_that_is_dropped_stops_sending() {
    let server = Server::stopped(&[]);
    let client = client_of(server.url()).await;
    let delivery = client.send(event(1)).await.unwrap();
    drop(client);
    assert_eq!(outcome(delivery).await, Outcome::Unanswered);
}

#[tokio::test]
async fn with_one_batch_on_its_way_batches_are_sent_in_the_order_of_their_events() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.next(&[Fault::LoseAnswer, Fault::LoseRequest, Fault::Answer(503, "")]);
    let spool = tempfile::tempdir().unwrap();
    for builder in [Client::builder(proxy.url()), Client::builder(proxy.url()).spool(spool.path())] {
        let before = proxy.seen().len();
        let client = builder.batch_events(1).in_flight(1).linger(MS).backoff(MS, 20 * MS).build().await.unwrap();
        for number in 0..10 {
            client.send(event(number)).await.unwrap();
        }
        client.close(PATIENCE).await.unwrap();
        let mut numbers: Vec<_> = proxy.seen()[before..].iter().map(Seen::first_id).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_stores_each_event_once() {
    let mut server = Server::start().await;
    let client = Client::builder(server.url()).batch_events(20).linger(MS).backoff(MS, 50 * MS).build().await.unwrap();
    let sending = {
        let client = client.clone();
        tokio::spawn(async move {
            let mut deliveries = Vec::new();
            for number in 0..3_000 {
                deliveries.push(client.send(event(number)).await.unwrap());
                if number % 100 == 0 {
                    tokio::time::sleep(5 * MS).await;
                }
            }
            deliveries
        })
    };
    for delivered in [300, 900, 1_500] {
        wait_until("some are delivered", async || holds(client.stats().delivered >= delivered, client.stats())).await;
        server.kill();
        server.launch();
    }
    server.ready().await;
    for delivery in sending.await.unwrap() {
        assert_eq!(outcome(delivery).await, Outcome::Delivered);
    }
    assert_eq!(server.counts().await, (3_000, 3_000));
    assert_eq!(server.events("t").await.len(), 3_000);
}
