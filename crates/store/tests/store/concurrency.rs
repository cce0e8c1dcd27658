//! Several commits at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_event::{EntryId, ReceiptId};
use sluice_store::commit::Outcome;
use sluice_store::{CommitOptions, Counts, EventQuery};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, options};

fn shard(test: &TestStore, worker: usize) -> CommitOptions {
    CommitOptions { shard: format!("replica/{worker}"), ..options(test.options.keyer.clone()) }
}

pub async fn two_commits_of_the_same_entries_at_once_store_them_once(test: TestStore) {
    let test = Arc::new(test);
    let mut skipped = 0;
    for round in 0..10 {
        let batch =
            batch((0..20).map(|e| entry(vec![request(events((0..20).map(|i| round * 1000 + e * 20 + i)))])).collect());
        let mut commits = JoinSet::new();
        for worker in 0..4 {
            let (test, batch) = (Arc::clone(&test), again(&batch));
            commits.spawn(async move { test.commit_until_done(&shard(&test, worker), &batch).await });
        }
        let outcomes: Vec<Outcome> = commits.join_all().await;
        assert_eq!(outcomes.iter().map(|o| o.counts.received).sum::<u64>(), 400, "{outcomes:?}");
        skipped += outcomes.iter().map(|o| o.skipped).sum::<u64>();
    }
    assert_eq!(skipped, 10 * 3 * 20);
    assert_eq!(test.counts().await, Counts { received: 4_000, unique: 4_000, ..Counts::default() });
    assert_eq!(test.rows().await, 4_000);
}

pub async fn a_request_repeated_in_entries_committed_at_once_is_counted_once(test: TestStore) {
    let test = Arc::new(test);
    for round in 0..10 {
        let receipt = ReceiptId::from(EntryId::random());
        let mut commits = JoinSet::new();
        for worker in 0..8 {
            let batch = batch(vec![entry(vec![keyed(receipt, events([round, round]))])]);
            let test = Arc::clone(&test);
            commits.spawn(async move { test.commit_until_done(&shard(&test, worker), &batch).await });
        }
        commits.join_all().await;
    }
    assert_eq!(test.counts().await, Counts { received: 20, unique: 10, duplicates: 10, conflicts: 0 });
}

pub async fn overlapping_keys_in_opposite_order_lose_nothing(test: TestStore) {
    let test = Arc::new(test);
    let mut commits = JoinSet::new();
    for worker in 0..8 {
        let test = Arc::clone(&test);
        commits.spawn(async move {
            for _ in 0..5 {
                let ids: Vec<u32> = if worker % 2 == 0 { (0..500).collect() } else { (0..500).rev().collect() };
                let batch = batch_of(ids.into_iter().map(|id| event("t", id, &(worker % 2).to_string())).collect());
                // All to one shard, so that they meet at the counters too.
                test.commit_until_done(&shard(&test, 0), &batch).await;
            }
        });
    }
    commits.join_all().await;
    let counts = test.counts().await;
    assert_eq!((counts.received, counts.unique, counts.duplicates), (20_000, 500, 19_500));
    assert_eq!(test.rows().await, 500);
    // Half of the sendings of each event had the other payload, whichever came first.
    assert_eq!(counts.conflicts, 10_000);
}

pub async fn every_committed_state_is_consistent_while_batches_are_committed(test: TestStore) {
    let test = Arc::new(test);
    let states = Arc::new(AtomicU64::new(0));
    let mut commits = JoinSet::new();
    for worker in 0..3 {
        let (test, states) = (Arc::clone(&test), Arc::clone(&states));
        // Until several states were read, however fast the commits and however slow the reads are.
        commits.spawn(async move {
            let mut rounds = 0;
            while rounds < 20 || (states.load(Ordering::Relaxed) < 3 && rounds < 10_000) {
                let batch = batch_of(events((0..50).map(|i| (rounds * 50 + i) * 2 / 3)));
                test.commit_until_done(&shard(&test, worker), &batch).await;
                rounds += 1;
            }
            rounds * 50
        });
    }
    let both = "SELECT (SELECT count(*) FROM events) - (SELECT coalesce(sum(unique_processed), 0) FROM counters)";
    let postgres = both.replace("- (SELECT", "- (SELECT (").replace(" FROM counters)", ")::int8 FROM counters)");
    let series =
        "SELECT (SELECT coalesce(sum(received), 0) FROM series) - (SELECT coalesce(sum(received), 0) FROM counters)";
    let postgres_series = "SELECT ((SELECT coalesce(sum(received), 0) FROM series) \
                                  + (SELECT coalesce(sum(n), 0) FROM series_batches, unnest(received) AS n) \
                                  - (SELECT coalesce(sum(received), 0) FROM counters))::int8";
    let mut sent = 0;
    while !commits.is_empty() {
        let counts = test.statistics().await.total;
        assert_eq!(counts.received, counts.unique + counts.duplicates, "{counts:?}");
        let (difference, series) = match test.place {
            Place::Postgres(_) => (&*postgres, postgres_series),
            Place::Sqlite(_) => (both, series),
        };
        assert_eq!(test.number(difference).await, 0, "rows and unique_processed");
        assert_eq!(test.number(series).await, 0, "received in series and in all");
        test.store.maintain_series(None).await.unwrap();
        states.fetch_add(1, Ordering::Relaxed);
        while let Some(done) = commits.try_join_next() {
            sent += done.unwrap();
        }
    }
    let states = states.load(Ordering::Relaxed);
    assert!(states >= 3, "states seen while committing: {states}");
    let page = test.store.events(&EventQuery { limit: 1, ..EventQuery::default() }).await.unwrap();
    assert_eq!(page.events.len(), 1);
    assert_eq!(test.counts().await.received, sent);
}
