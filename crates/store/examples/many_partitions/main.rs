//! Measures PostgreSQL with many partitions: queries, batches, and how long batches wait while partitions are closed.
//!
//! `cargo run --release -p sluice-store --example many_partitions -- PARTITIONS...` starts a PostgreSQL, makes partitions of
//! 2,000 events each, and measures at each of these numbers of them. Meanwhile another task commits a batch after the
//! other, and the longest of them is printed: it has waited for a partition to be closed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program for one measurement")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_event::entry::{Entry, Request};
use sluice_event::key::hash128;
use sluice_event::{EntryId, Event, Keyer, PayloadHash, RequestId, Timestamp};
use sluice_log::Position;
use sluice_store::commit::{Batch, commit};
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::{CommitOptions, EventQuery, Store};
use sluice_tests::postgres::PostgresServer;

/// Events of a partition.
const ROWS: u64 = 2_000;
/// Events of the batches that are measured.
const BATCH: u64 = 1_000;
/// Events of the batches that run while partitions are closed: few, so that a wait shows.
const SMALL_BATCH: u64 = 10;
/// The first number of the events of those.
const SMALL: u64 = 1 << 40;
/// How often each query runs.
const TIMES: u32 = 50;

#[tokio::main]
async fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|number| number.parse().unwrap()).collect();
    let server = tokio::task::spawn_blocking(|| PostgresServer::start(true)).await.unwrap();
    let settings = PostgresSettings { url: server.url(), partition_rows: ROWS, ..PostgresSettings::default() };
    let store = Arc::new(PostgresStore::connect(&settings).unwrap());
    store.migrate().await.unwrap();
    let longest = Arc::new(AtomicU64::new(0));
    let beside = tokio::spawn(commit_beside(Arc::clone(&store), Arc::clone(&longest)));
    let mut next = 0;
    println!(
        "partitions | event by id | page of 100 | of a topic | topics | 1,000 new events | 1,000 old ones | longest batch"
    );
    for partitions in numbers {
        longest.store(0, Ordering::Relaxed);
        let mut figures = store.maintain_partitions(None).await.unwrap().unwrap();
        while figures.partitions < partitions {
            next = commit_numbers(&store, "main", next..next + ROWS).await;
            figures = store.maintain_partitions(None).await.unwrap().unwrap();
        }
        let longest = Duration::from_micros(longest.load(Ordering::Relaxed));
        measure(&store, figures.partitions, &mut next, longest).await;
    }
    beside.abort();
}

/// Prints one line.
async fn measure(store: &PostgresStore, partitions: u64, next: &mut u64, longest: Duration) {
    let stored = *next;
    let mut number = 0;
    let mut some_id = || {
        number = (number + 7_919) % stored;
        format!("evt-{number}")
    };
    let by_id = mean(TIMES, async || assert_eq!(store.event("t", &some_id(), 1).await.unwrap().len(), 1)).await;
    let newest = EventQuery { limit: 100, ..EventQuery::default() };
    let page = mean(TIMES, async || assert_eq!(store.events(&newest).await.unwrap().events.len(), 100)).await;
    let of_topic = EventQuery { topic: Some("t".to_owned()), ..newest.clone() };
    let topic = mean(TIMES, async || assert_eq!(store.events(&of_topic).await.unwrap().events.len(), 100)).await;
    let topics = mean(TIMES, async || assert!(store.statistics(100).await.unwrap().total.unique >= stored)).await;
    let new = mean(TIMES, async || *next = commit_numbers(store, "main", *next..*next + BATCH).await).await;
    // Of all partitions, and not those that the cache of keys still has.
    let mut from = 0;
    let old = mean(TIMES, async || {
        from = (from + 104_729) % stored;
        let step = stored / BATCH;
        let numbers = (0..BATCH).map(|n| (from + n * step) % stored);
        commit_events(store, "main", numbers.collect()).await;
    })
    .await;
    println!(
        "{partitions} | {by_id:.1?} | {page:.1?} | {topic:.1?} | {topics:.1?} | {new:.1?} | {old:.1?} | {longest:.0?}"
    );
}

/// Returns the mean duration of a call.
async fn mean(times: u32, mut call: impl AsyncFnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..times {
        call().await;
    }
    began.elapsed() / times
}

/// Commits small batches, and keeps the duration of the longest one.
async fn commit_beside(store: Arc<PostgresStore>, longest: Arc<AtomicU64>) {
    let mut next = SMALL;
    loop {
        let began = Instant::now();
        next = commit_numbers(&store, "beside", next..next + SMALL_BATCH).await;
        longest.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Stores new events with these numbers. Returns the next one.
async fn commit_numbers(store: &PostgresStore, shard: &str, numbers: std::ops::Range<u64>) -> u64 {
    let end = numbers.end;
    commit_events(store, shard, numbers.collect()).await;
    end
}

async fn commit_events(store: &PostgresStore, shard: &str, numbers: Vec<u64>) {
    let options = CommitOptions { keyer: Keyer::default(), shard: shard.to_owned(), audit: false, numbering: None };
    let position = Position { stream: 0, millis: 1_700_000_000_000, sequence: numbers[0] };
    let events = numbers.into_iter().map(event).collect();
    let (id, accepted_at) = (RequestId::random(), Timestamp::now());
    let request = Request { id, receipt: None, waits: false, accepted_at, events, trace: None };
    let entries = vec![(position, Entry { id: EntryId::random(), requests: vec![request] })];
    commit(store, &options, &Batch { entries, ..Batch::default() }).await.unwrap();
}

fn event(number: u64) -> Event<'static> {
    Event {
        topic: Cow::Borrowed("t"),
        event_id: Cow::Owned(format!("evt-{number}")),
        timestamp: Timestamp::UNIX_EPOCH,
        source: None,
        payload: Cow::Borrowed("{}"),
        payload_hash: PayloadHash::from_bytes(hash128(b"{}")),
    }
}
