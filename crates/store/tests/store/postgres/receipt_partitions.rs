//! Receipts are unique across the partitions that they are dropped by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_store::CommitOptions;
use sluice_store::{Counts, Maintenance};
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, direct, rules};

const KEEP: Duration = Duration::from_secs(3_600);

async fn maintain(test: &TestStore) {
    test.store.maintain(&Maintenance { receipts_ttl: KEEP, retention: None }).await.unwrap();
}

/// Makes the current epoch old enough to end.
async fn age_epoch(test: &TestStore) {
    test.run("UPDATE receipt_epochs SET opened_at = opened_at - interval '2 hours' WHERE closed_at IS NULL").await;
}

async fn epochs(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM receipt_epochs").await
}

async fn partitions(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'receipts'::regclass").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_an_older_epoch_still_counts() {
    let test = TestStore::postgres().await;
    let batch = batch_of(events(0..10));
    test.commit(&batch).await;
    for epoch in 2..5 {
        age_epoch(&test).await;
        maintain(&test).await;
        assert_eq!((epochs(&test).await, partitions(&test).await), (epoch, epoch));
        assert_eq!(test.commit(&again(&batch)).await.skipped, 1, "epoch {epoch}");
        // It was seen again, so it is in this epoch too, and this epoch can end.
    }
    assert_eq!(test.counts().await, Counts { received: 10, unique: 10, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_without_receipts_goes_on() {
    let test = TestStore::postgres().await;
    age_epoch(&test).await;
    maintain(&test).await;
    assert_eq!(epochs(&test).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_dropped_whole_when_it_ended_long_enough_ago() {
    let test = TestStore::postgres().await;
    let (old, new) = (batch_of(events([1])), batch_of(events([2])));
    test.commit(&old).await;
    age_epoch(&test).await;
    maintain(&test).await;
    test.commit(&new).await;
    test.age("receipt_epochs", "closed_at", KEEP - Duration::from_secs(60)).await;
    maintain(&test).await;
    assert_eq!(test.commit(&again(&old)).await.skipped, 1, "it ended less than its time ago");
    test.age("receipt_epochs", "closed_at", Duration::from_secs(120)).await;
    maintain(&test).await;
    assert_eq!((epochs(&test).await, partitions(&test).await), (1, 1));
    assert_eq!(
        test.number("SELECT count(*) FROM pg_tables WHERE tablename = 'receipts_1' AND schemaname = current_schema")
            .await,
        0
    );
    assert_eq!(test.commit(&again(&new)).await.skipped, 1, "the current epoch's receipts are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_twice_while_epochs_end() {
    let test = Arc::new(TestStore::postgres().await);
    let done = Arc::new(AtomicBool::new(false));
    let rotating = tokio::spawn({
        let (test, done) = (Arc::clone(&test), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                age_epoch(&test).await;
                maintain(&test).await;
            }
        }
    });
    let mut workers = JoinSet::new();
    // All commit the same entries, each from another beginning, so that some meet in the same epoch
    // and some across epochs.
    let entries: Arc<Vec<_>> = Arc::new((0..150).map(|e| entry(vec![request(events([e, e]))])).collect());
    for worker in 0..4 {
        let (test, entries) = (Arc::clone(&test), Arc::clone(&entries));
        workers.spawn(async move {
            let rules = CommitOptions { shard: format!("replica/{worker}"), ..rules(test.rules.keyer.clone()) };
            for step in 0..entries.len() {
                let entry = entries[(step + worker * 37) % entries.len()].clone();
                test.commit_until_done(&rules, &batch(vec![entry])).await;
            }
        });
    }
    workers.join_all().await;
    done.store(true, Ordering::Relaxed);
    rotating.await.unwrap();
    let ended = epochs(&test).await;
    println!("{ended} epochs");
    assert!(ended > 3, "epochs ended while batches were committed: {ended}");
    assert_eq!(test.counts().await, Counts { received: 300, unique: 150, duplicates: 150, conflicts: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_replicas_that_maintain_at_once_one_ends_the_epoch() {
    let test = Arc::new(TestStore::postgres().await);
    for round in 0..5 {
        test.commit(&batch_of(events([round]))).await;
        age_epoch(&test).await;
        let mut replicas = JoinSet::new();
        for _ in 0..4 {
            let test = Arc::clone(&test);
            replicas.spawn(async move { maintain(&test).await });
        }
        replicas.join_all().await;
        assert_eq!((epochs(&test).await, partitions(&test).await), (round + 2, round + 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_delays_dropping_an_epoch_but_neither_its_end_nor_a_batch() {
    let test = TestStore::postgres().await;
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    test.commit(&batch_of(events([1]))).await;
    let mut backup = direct(settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE receipts IN ACCESS SHARE MODE").execute(&mut backup).await.unwrap();

    age_epoch(&test).await;
    maintain(&test).await;
    assert_eq!(epochs(&test).await, 2);
    test.age("receipt_epochs", "closed_at", KEEP * 2).await;
    maintain(&test).await;
    assert_eq!(epochs(&test).await, 2, "the backup still reads the old one");
    test.commit(&batch_of(events([2]))).await;

    sqlx::raw_sql("COMMIT").execute(&mut backup).await.unwrap();
    maintain(&test).await;
    assert_eq!((epochs(&test).await, partitions(&test).await), (1, 1));
}
