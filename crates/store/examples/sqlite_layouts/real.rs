//! The store itself, with its maintenance beside the batches.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_event::entry::{Entry, Request};
use sluice_event::key::hash128;
use sluice_event::{EntryId, Event, Keyer, PayloadHash, RequestId, Timestamp};
use sluice_log::Position;
use sluice_store::commit::{Batch, commit};
use sluice_store::sqlite::SqliteStore;
use sluice_store::{CommitOptions, Maintenance, Store};

use crate::events::{Random, TOPICS, payload};
use crate::store::{NEW, REPEATED, WINDOW};

/// How often the programs maintain partitions.
const PARTITIONS_EVERY: Duration = Duration::from_secs(5);

/// Stores events up to these numbers of rows, and prints the rate of the last ones. Those that `retained` is set for
/// are removed after that time.
pub async fn fill(folder: &Path, retained: Option<Duration>, rows: impl Iterator<Item = u64>) {
    std::fs::create_dir_all(folder).unwrap();
    let store = Arc::new(SqliteStore::open(&folder.join("store.db"), &Keyer::default(), 1_000_000).await.unwrap());
    let maintained = Arc::clone(&store);
    let maintenance = tokio::spawn(async move { maintain(&*maintained, retained).await });
    let mut stored = store.statistics(0).await.unwrap().total.unique;
    let options =
        CommitOptions { keyer: Keyer::default(), shard: "standalone".to_owned(), audit: false, numbering: None };
    for to in rows {
        let (mut window, mut longest) = (None, Duration::ZERO);
        while stored < to {
            if window.is_none() && stored + WINDOW >= to {
                (window, longest) = (Some((Instant::now(), stored)), Duration::ZERO);
            }
            let batch = batch(stored);
            let began = Instant::now();
            let outcome = commit(&*store, &options, &batch).await.unwrap();
            longest = longest.max(began.elapsed());
            assert!(outcome.counts.unique >= NEW, "only what was removed is new again");
            stored += NEW;
        }
        let Some((began, before)) = window else { continue };
        let rate = (stored - before) as f64 / began.elapsed().as_secs_f64() / 1e3;
        let file = std::fs::metadata(folder.join("store.db")).unwrap().len() as f64 / 1e6;
        println!(
            "the store: {rate:.1} thousand new rows a second at {:.1} million, longest batch {longest:.0?}, {file:.0} MB",
            stored as f64 / 1e6
        );
    }
    maintenance.abort();
    store.close().await;
}

async fn maintain(store: &dyn Store, retention: Option<Duration>) {
    let maintenance =
        Maintenance { receipts_ttl: Duration::from_secs(86_400), retention, max_duration: Duration::from_secs(2) };
    loop {
        store.maintain_partitions(retention).await.unwrap();
        let began = Instant::now();
        let removed = store.maintain(&maintenance).await.unwrap();
        if removed.events > 0 {
            println!("{} events removed in {:.1?}, more: {}", removed.events, began.elapsed(), removed.more);
        }
        if !removed.more {
            tokio::time::sleep(PARTITIONS_EVERY).await;
        }
    }
}

/// Returns a batch of new events, and of some that are stored.
fn batch(stored: u64) -> Batch<'static> {
    let mut random = Random(stored);
    let repeated: Vec<_> = (0..if stored == 0 { 0 } else { REPEATED }).map(|_| random.below(stored)).collect();
    let events = (stored..stored + NEW).chain(repeated).map(event).collect();
    let id = RequestId::random();
    let request = Request { id, receipt: None, waits: false, accepted_at: Timestamp::now(), events, trace: None };
    let position = Position { stream: 0, millis: 1_700_000_000_000, sequence: stored };
    Batch { entries: vec![(position, Entry { id: EntryId::random(), requests: vec![request] })], ..Batch::default() }
}

fn event(number: u64) -> Event<'static> {
    let mut random = Random(number);
    Event {
        topic: Cow::Borrowed(TOPICS[random.below(5) as usize]),
        event_id: Cow::Owned(format!("evt-{number:010}")),
        timestamp: Timestamp::UNIX_EPOCH,
        source: Some(Cow::Owned(format!("service-{}", random.below(20)))),
        payload: Cow::Owned(payload(&mut random)),
        payload_hash: PayloadHash::from_bytes(hash128(&number.to_be_bytes())),
    }
}
