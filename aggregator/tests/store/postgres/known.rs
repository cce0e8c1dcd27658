//! Keys that a replica knows, and keys that only another replica knows.

use std::sync::Arc;

use sluice_aggregator::store::commit::{Rules, commit};
use sluice_aggregator::store::{Counts, Store, StoreError};
use tokio::task::JoinSet;

use super::faults::{cut_connections, named};
use crate::batches::*;
use crate::stores::{Place, TestStore, fresh_schema, opened};

/// A second replica on the same tables.
async fn replica(test: &TestStore) -> Arc<dyn Store> {
    match &test.place {
        Place::Postgres(settings) => opened(settings).await,
        Place::Sqlite(_) => unreachable!("these tests are PostgreSQL's"),
    }
}

async fn commit_until_done(store: &dyn Store, rules: &Rules, ids: std::ops::Range<u32>) -> Counts {
    let batch = batch_of(events(ids));
    loop {
        match commit(store, rules, &batch).await {
            Ok(outcome) => return outcome.counts,
            Err(StoreError::Conflict(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_key_is_dropped_without_asking_and_forgotten_with_the_connection_that_stored_it() {
    let settings = named(fresh_schema());
    let test = TestStore::on_postgres(settings.clone()).await;
    let counts = |unique, duplicates| Counts { received: 2, unique, duplicates, conflicts: 0 };
    assert_eq!(test.commit(&batch_of(events([1, 2]))).await.counts, counts(2, 0));
    // As a failover would lose it. Were the store asked, it would be stored again.
    test.run("DELETE FROM events WHERE event_id = '1'").await;
    assert_eq!(test.commit(&batch_of(events([1, 2]))).await.counts, counts(0, 2));
    cut_connections(&settings).await;
    let rules = test.rules.clone();
    assert_eq!(test.commit_until_done(&rules, &batch_of(events([1, 2]))).await.counts, counts(1, 1));
    assert_eq!(test.rows().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_replica_stored_are_found_whatever_this_one_expects() {
    let test = TestStore::postgres().await;
    let other = replica(&test).await;
    let mut next = 0;
    // COPY fails first, then keys are looked up, then, after batches without one, copied again.
    for round in 0..40 {
        let stored = if round % 15 < 3 { 10 } else { 0 };
        commit_until_done(&*other, &test.rules, next..next + stored).await;
        let counts = commit_until_done(&*test.store, &test.rules, next..next + 50).await;
        let (stored, unique) = (u64::from(stored), 50 - u64::from(stored));
        assert_eq!(counts, Counts { received: 50, unique, duplicates: stored, conflicts: 0 }, "round {round}");
        next += 50;
    }
    assert_eq!(test.rows().await, i64::from(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_store_the_same_keys_at_the_same_time_store_them_once() {
    let test = TestStore::postgres().await;
    let mut replicas = JoinSet::new();
    for number in 0..6_u32 {
        // Two workers of each of three replicas.
        let store = if number % 2 == 0 { replica(&test).await } else { Arc::clone(&test.store) };
        let rules = Rules { shard: format!("{number}"), ..test.rules.clone() };
        replicas.spawn(async move {
            let mut sum = Counts::default();
            for round in 0..30 {
                let counts = commit_until_done(&*store, &rules, round * 40..round * 40 + 100).await;
                sum.received += counts.received;
                sum.unique += counts.unique;
                sum.duplicates += counts.duplicates;
            }
            sum
        });
    }
    let sums = replicas.join_all().await;
    let sum = |pick: fn(&Counts) -> u64| sums.iter().map(pick).sum::<u64>();
    let unique = 29 * 40 + 100;
    assert_eq!((sum(|c| c.received), sum(|c| c.unique)), (6 * 30 * 100, unique));
    assert_eq!(sum(|c| c.duplicates), 6 * 30 * 100 - unique);
    assert_eq!(test.rows().await, unique as i64);
}
