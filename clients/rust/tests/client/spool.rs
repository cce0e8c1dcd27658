//! Events on disk.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_client::{BuildError, Builder, Client, Event, OpenError, Outcome, SendError};

use crate::proxy::{Fault, Proxy};
use crate::server::Server;
use crate::wait::{PATIENCE, holds, outcome, wait_until};

const MS: Duration = Duration::from_millis(1);

pub fn event(number: usize) -> Event {
    Event::new("t", &json!({"number": number})).unwrap().event_id(number.to_string())
}

pub fn with_spool(url: String, dir: &Path) -> Builder {
    Client::builder(url).spool(dir).linger(MS).backoff(MS, 50 * MS)
}

/// Leaves events in a spool, each in a batch of its own, as a client does that never reached its server.
pub async fn leave(dir: &Path, numbers: std::ops::Range<usize>) {
    let client = with_spool("http://127.0.0.1:1".to_owned(), dir).build().await.unwrap();
    for number in numbers {
        client.send(event(number)).await.unwrap();
    }
    client.close(Duration::ZERO).await.unwrap_err();
}

pub fn names(dir: &Path, extension: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(extension)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_event_that_was_confirmed_is_sent_by_the_next_client() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().join("new").join("folder");
    let client = with_spool("http://127.0.0.1:1".to_owned(), &dir).build().await.unwrap();
    let delivery = client.send(event(0)).await.unwrap();
    client.close(10 * MS).await.unwrap_err();
    assert_eq!(outcome(delivery).await, Outcome::Spooled);
    leave(&dir, 1..3).await;

    let client = with_spool(server.url(), &dir).build().await.unwrap();
    let recovery = client.recovery().unwrap();
    assert_eq!((recovery.batches, recovery.events, recovery.torn_bytes), (3, 3, 0));
    assert!(recovery.damaged.is_empty());
    client.send(event(3)).await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!((client.stats().sent, client.stats().delivered), (1, 4));
    assert_eq!(server.events("t").await.len(), 4);
    assert_eq!(server.counts().await, (4, 4));
}

#[tokio::test]
async fn a_batch_is_repeated_by_the_next_client_under_the_same_key_with_the_same_body() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let spool = tempfile::tempdir().unwrap();
    proxy.next(&[Fault::LoseAnswer]);
    let slow = with_spool(proxy.url(), spool.path()).backoff(1_000 * PATIENCE, 1_000 * PATIENCE);
    let client = slow.build().await.unwrap();
    client.send(Event::new("t", &json!(1)).unwrap()).await.unwrap();
    wait_until("the server has it", async || {
        let (received, _) = server.counts().await;
        holds(received == 1, received)
    })
    .await;
    client.close(Duration::ZERO).await.unwrap_err();

    let client = with_spool(proxy.url(), spool.path()).build().await.unwrap();
    client.close(PATIENCE).await.unwrap();
    let seen = proxy.seen();
    assert_eq!((seen.len(), &seen[0].key, &seen[0].body), (2, &seen[1].key, &seen[1].body));
    assert_eq!(server.counts().await, (1, 1));
}

#[tokio::test]
async fn a_batch_that_was_answered_is_not_sent_again_and_its_file_is_removed() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let spool = tempfile::tempdir().unwrap();
    let client = with_spool(proxy.url(), spool.path()).in_flight(1).build().await.unwrap();
    outcome(client.send(event(0)).await.unwrap()).await;
    // The second batch stays, and with it the segment in which both are.
    proxy.pass_only(0);
    client.send(event(1)).await.unwrap();
    client.close(Duration::ZERO).await.unwrap_err();
    assert_eq!((names(spool.path(), ".segment").len(), names(spool.path(), ".acks").len()), (1, 1));

    proxy.pass_all();
    let client = with_spool(proxy.url(), spool.path()).build().await.unwrap();
    assert_eq!(client.recovery().unwrap().batches, 1);
    client.flush(PATIENCE).await.unwrap();
    let sent: Vec<_> = proxy.seen().into_iter().map(|seen| seen.key).collect();
    assert!(sent[1..].iter().all(|key| *key != sent[0]), "{sent:?}");
    assert!(names(spool.path(), ".segment").is_empty() && names(spool.path(), ".acks").is_empty());
    assert_eq!(client.stats().spooled_bytes, 0);
    assert_eq!(server.counts().await, (2, 2));
}

#[tokio::test]
async fn events_that_are_sent_at_the_same_time_are_written_as_one_batch() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    let spool = tempfile::tempdir().unwrap();
    let client = with_spool(proxy.url(), spool.path()).linger(PATIENCE).batch_events(50).build().await.unwrap();
    let sending: Vec<_> = (0..100)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { outcome(client.send(event(number)).await.unwrap()).await })
        })
        .collect();
    for sender in sending {
        assert_eq!(sender.await.unwrap(), Outcome::Delivered);
    }
    assert_eq!(proxy.seen().iter().map(|seen| seen.events()).collect::<Vec<_>>(), [50, 50]);
    assert_eq!(server.counts().await, (100, 100));
}

#[tokio::test]
async fn a_spool_is_locked_against_a_second_client_until_it_is_closed() {
    let spool = tempfile::tempdir().unwrap();
    let build = || with_spool("http://127.0.0.1:1".to_owned(), spool.path()).build();
    let first = build().await.unwrap();
    let refused = build().await.unwrap_err();
    assert!(matches!(refused, BuildError::Spool(OpenError::InUse(_))), "{refused}");
    first.close(PATIENCE).await.unwrap();
    let second = build().await.unwrap();
    drop(second);
    wait_until("a client that was dropped releases it", async || build().await.map_err(|error| error.to_string()))
        .await;
}

#[tokio::test]
async fn refused_events_of_a_spool_become_dead_letters_with_the_reason() {
    let server = Server::start().await;
    let spool = tempfile::tempdir().unwrap();
    let client = with_spool(server.url(), spool.path()).linger(PATIENCE).batch_events(3).build().await.unwrap();
    let bad = Event::new("t", &json!({"kept": true})).unwrap().event_id("").source("shop");
    let (first, refused, last) = tokio::join!(client.send(event(0)), client.send(bad), client.send(event(1)));
    let Outcome::Rejected(reason) = outcome(refused.unwrap()).await else { panic!("it was not rejected") };
    assert_eq!((outcome(first.unwrap()).await, outcome(last.unwrap()).await), (Outcome::Delivered, Outcome::Delivered));
    client.close(PATIENCE).await.unwrap();

    let text = std::fs::read_to_string(spool.path().join("dead-letters.ndjson")).unwrap();
    let letter: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!((letter["status"].as_u64(), letter["code"].as_str()), (Some(202), Some(reason.code.as_str())));
    assert_eq!((letter["field"].as_str(), &letter["detail"]), (Some("event_id"), &json!(reason.detail)));
    assert_eq!((&letter["event"]["payload"], &letter["event"]["source"]), (&json!({"kept": true}), &json!("shop")));
    assert!(letter["event"]["timestamp"].is_string() && letter["refused_at"].is_string(), "{letter}");
    assert_eq!(client.stats().aside_bytes, text.len() as u64);
    assert_eq!((client.stats().delivered, client.stats().rejected), (2, 1));
    assert_eq!(server.counts().await, (2, 2));
}

#[tokio::test]
async fn a_batch_whose_division_was_interrupted_counts_once() {
    let server = Server::with(&["--max-events", "10"]).await;
    let proxy = Proxy::start(&server.address()).await;
    let spool = tempfile::tempdir().unwrap();
    // The batch is refused, its first half is accepted, and the second half never arrives.
    proxy.pass_only(2);
    let builder = with_spool(proxy.url(), spool.path()).linger(PATIENCE).batch_events(20);
    let client = builder.build().await.unwrap();
    let sending: Vec<_> = (0..20)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.send(event(number)).await.map(drop) })
        })
        .collect();
    for sender in sending {
        sender.await.unwrap().unwrap();
    }
    wait_until("the second half is on its way", async || holds(proxy.seen().len() == 3, proxy.seen().len())).await;
    assert_eq!(server.counts().await, (10, 10));
    client.close(Duration::ZERO).await.unwrap_err();

    proxy.pass_all();
    let client = with_spool(proxy.url(), spool.path()).build().await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(client.stats().delivered, 20);
    assert_eq!(server.counts().await, (20, 20));
}

#[tokio::test]
async fn an_event_that_cannot_be_written_is_not_confirmed_and_the_next_one_can_be() {
    let server = Server::start().await;
    let parent = tempfile::tempdir().unwrap();
    let (dir, away) = (parent.path().join("spool"), parent.path().join("away"));
    let client = with_spool(server.url(), &dir).build().await.unwrap();
    std::fs::rename(&dir, &away).unwrap();
    let error = client.send(event(0)).await.unwrap_err();
    assert!(matches!(error, SendError::Spool(_)), "{error}");
    std::fs::rename(&away, &dir).unwrap();
    client.send(event(1)).await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!((client.stats().sent, client.stats().waiting_events), (1, 0));
    assert_eq!(server.counts().await, (1, 1));
}
