//! What happens when there is no room.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sluice_client::{Builder, Client, Event, Outcome, SendError, WhenFull};

use crate::proxy::Proxy;
use crate::server::Server;
use crate::wait::{PATIENCE, holds, outcome, wait_until};

const MS: Duration = Duration::from_millis(1);
const BATCH_BYTES: usize = 4 << 10;
const MEMORY_BYTES: usize = 16 << 10;
const SPOOL_BYTES: u64 = 64 << 10;

/// Returns an event of about 500 bytes.
fn event(number: usize) -> Event {
    let text = "x".repeat(400);
    Event::new("t", &json!({"number": number, "text": text})).unwrap().event_id(number.to_string())
}

fn small(url: String) -> Builder {
    let builder = Client::builder(url).batch_bytes(BATCH_BYTES).memory_bytes(MEMORY_BYTES);
    builder.linger(MS).backoff(MS, 50 * MS).spool_bytes(SPOOL_BYTES)
}

#[tokio::test]
async fn a_sender_waits_while_the_memory_is_full() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.pass_only(0);
    let client = small(proxy.url()).build().await.unwrap();
    let sending = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                client.send(event(number)).await.unwrap();
            }
        })
    };
    wait_until("the memory is full", async || {
        let stats = client.stats();
        assert!(stats.waiting_bytes <= MEMORY_BYTES as u64, "{stats:?}");
        holds(stats.waiting_bytes > MEMORY_BYTES as u64 - 1_000, stats)
    })
    .await;
    assert!(client.stats().sent < 40 && !sending.is_finished(), "{:?}", client.stats());
    proxy.pass_all();
    sending.await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.counts().await, (200, 200));
    let stats = client.stats();
    assert_eq!((stats.sent, stats.delivered, stats.dropped, stats.waiting_bytes), (200, 200, 0, 0));
}

#[tokio::test]
async fn a_sender_that_waits_for_room_is_told_that_the_client_is_closed() {
    let server = Server::stopped(&[]);
    let client = small(server.url()).build().await.unwrap();
    let sending = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0.. {
                if let Err(error) = client.send(event(number)).await {
                    return error;
                }
            }
            unreachable!()
        })
    };
    wait_until("the memory is full", async || {
        holds(client.stats().waiting_bytes > MEMORY_BYTES as u64 - 1_000, client.stats())
    })
    .await;
    client.close(10 * MS).await.unwrap_err();
    assert!(matches!(sending.await.unwrap(), SendError::Closed));
}

#[tokio::test]
async fn events_are_dropped_and_counted_while_the_memory_is_full_if_that_was_chosen() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address()).await;
    proxy.pass_only(0);
    let client = small(proxy.url()).when_full(WhenFull::Drop).build().await.unwrap();
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for number in 0..200 {
        match client.send(event(number)).await {
            Ok(delivery) => taken.push(delivery),
            Err(SendError::Dropped) => dropped += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(dropped > 100 && taken.len() > 10, "{dropped} were dropped, {} taken", taken.len());
    proxy.pass_all();
    let sent = taken.len() as u64;
    for delivery in taken {
        assert_eq!(outcome(delivery).await, Outcome::Delivered);
    }
    let stats = client.stats();
    assert_eq!((stats.sent, stats.delivered, stats.dropped), (sent, sent, dropped));
    assert_eq!(server.counts().await, (sent, sent));
}

#[tokio::test]
async fn a_spool_takes_more_events_than_the_memory_while_the_server_is_away() {
    let mut server = Server::stopped(&[]);
    let spool = tempfile::tempdir().unwrap();
    let builder = small(server.url()).spool(spool.path()).spool_bytes(4 << 20).when_full(WhenFull::Block);
    let client = builder.build().await.unwrap();
    let mut sending = Vec::new();
    for sender in 0..10 {
        let client = client.clone();
        sending.push(tokio::spawn(async move {
            let mut deliveries = Vec::new();
            for number in 0..50 {
                deliveries.push(client.send(event(sender * 50 + number)).await.unwrap());
            }
            deliveries
        }));
    }
    let mut deliveries = Vec::new();
    for sender in sending {
        deliveries.extend(sender.await.unwrap());
    }
    let stats = client.stats();
    assert_eq!((stats.sent, stats.waiting_events, stats.waiting_bytes, stats.delivered), (500, 500, 0, 0));
    assert!(stats.spooled_bytes > 10 * MEMORY_BYTES as u64, "{stats:?}");
    server.launch();
    for delivery in deliveries {
        assert_eq!(outcome(delivery).await, Outcome::Delivered);
    }
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.counts().await, (500, 500));
}

#[tokio::test]
async fn a_sender_waits_while_the_spool_is_full() {
    let mut server = Server::stopped(&[]);
    let spool = tempfile::tempdir().unwrap();
    let client = small(server.url()).spool(spool.path()).build().await.unwrap();
    let sending = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..400 {
                client.send(event(number)).await.unwrap();
            }
        })
    };
    wait_until("the spool is full", async || {
        let size = size(spool.path());
        assert!(size <= SPOOL_BYTES, "{size}");
        holds(size > SPOOL_BYTES - 1_000, size)
    })
    .await;
    assert!(client.stats().sent < 200 && !sending.is_finished(), "{:?}", client.stats());
    server.launch();
    wait_until("all events are taken", async || {
        let size = size(spool.path());
        assert!(size <= SPOOL_BYTES, "{size}");
        holds(sending.is_finished(), client.stats())
    })
    .await;
    sending.await.unwrap();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.counts().await, (400, 400));
    assert_eq!(client.stats().dropped, 0);
}

#[tokio::test]
async fn events_are_dropped_and_counted_while_the_spool_is_full_if_that_was_chosen() {
    let mut server = Server::stopped(&[]);
    let spool = tempfile::tempdir().unwrap();
    let client = small(server.url()).spool(spool.path()).when_full(WhenFull::Drop).build().await.unwrap();
    let (mut sent, mut dropped) = (0, 0);
    for number in 0..250 {
        match client.send(event(number)).await {
            Ok(_) => sent += 1,
            Err(SendError::Dropped) => dropped += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(dropped > 50 && sent > 50, "{dropped} were dropped, {sent} taken");
    assert!(size(spool.path()) <= SPOOL_BYTES, "{}", size(spool.path()));
    assert_eq!((client.stats().sent, client.stats().dropped, client.stats().waiting_events), (sent, dropped, sent));
    server.launch();
    client.close(PATIENCE).await.unwrap();
    assert_eq!(server.counts().await, (sent, sent));
}

/// Returns the length of the segments.
fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments.map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len())).sum()
}
