//! Receipts are unique across the partitions that they are dropped by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_store::CommitOptions;
use sluice_store::{Counts, Maintenance};
use sluice_tests::wait_until;
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, direct, options};

const RECEIPTS_TTL: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

async fn maintain(test: &TestStore) {
    test.store
        .maintain(&Maintenance { receipts_ttl: RECEIPTS_TTL, retention: None, max_duration: Duration::from_secs(5) })
        .await
        .unwrap();
}

/// Makes the open partition old enough to be closed.
async fn age_partition(test: &TestStore) {
    test.run("UPDATE receipt_epochs SET opened_at = opened_at - interval '2 hours' WHERE closed_at IS NULL").await;
}

async fn recorded_partitions(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM receipt_epochs").await
}

async fn partitions(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'receipts'::regclass").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_in_an_older_partition_still_counts() {
    let test = TestStore::postgres().await;
    let batch = batch_of(events(0..10));
    test.commit(&batch).await;
    for expected in 2..5 {
        age_partition(&test).await;
        maintain(&test).await;
        assert_eq!((recorded_partitions(&test).await, partitions(&test).await), (expected, expected));
        assert_eq!(test.commit(&again(&batch)).await.skipped, 1, "{expected} partitions");
        // The receipt was inserted into this partition too, so the partition can be closed.
    }
    assert_eq!(test.counts().await, Counts { received: 10, unique: 10, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_receipts_stays_open() {
    let test = TestStore::postgres().await;
    age_partition(&test).await;
    maintain(&test).await;
    assert_eq!(recorded_partitions(&test).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_dropped_when_it_was_closed_long_enough_ago() {
    let test = TestStore::postgres().await;
    let (old, new) = (batch_of(events([1])), batch_of(events([2])));
    test.commit(&old).await;
    age_partition(&test).await;
    maintain(&test).await;
    test.commit(&new).await;
    test.age("receipt_epochs", "closed_at", RECEIPTS_TTL - Duration::from_secs(60)).await;
    maintain(&test).await;
    assert_eq!(test.commit(&again(&old)).await.skipped, 1, "it was closed less than its time ago");
    test.age("receipt_epochs", "closed_at", Duration::from_secs(120)).await;
    maintain(&test).await;
    assert_eq!((recorded_partitions(&test).await, partitions(&test).await), (1, 1));
    assert_eq!(
        test.number("SELECT count(*) FROM pg_tables WHERE tablename = 'receipts_1' AND schemaname = current_schema")
            .await,
        0
    );
    assert_eq!(test.commit(&again(&new)).await.skipped, 1, "the receipts of the open partition are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_twice_while_partitions_are_closed() {
    let test = Arc::new(TestStore::postgres().await);
    let done = Arc::new(AtomicBool::new(false));
    let rotating = tokio::spawn({
        let (test, done) = (Arc::clone(&test), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                age_partition(&test).await;
                maintain(&test).await;
            }
        }
    });
    // All commit the same entries, each from another beginning, so that some meet in the same
    // partition and some across partitions.
    let entries: Arc<Vec<_>> = Arc::new((0..150).map(|e| entry(vec![request(events([e, e]))])).collect());
    let began = Instant::now();
    // Closing gives way to batches, so how many it takes until some partitions are closed is not known beforehand. What
    // is committed again must change nothing.
    while recorded_partitions(&test).await <= 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "partitions are closed while batches are committed");
        let mut workers = JoinSet::new();
        for worker in 0..4 {
            let (test, entries) = (Arc::clone(&test), Arc::clone(&entries));
            workers.spawn(async move {
                let options =
                    CommitOptions { shard: format!("replica/{worker}"), ..options(test.options.keyer.clone()) };
                for step in 0..entries.len() {
                    let entry = entries[(step + worker * 37) % entries.len()].clone();
                    test.commit_until_done(&options, &batch(vec![entry])).await;
                }
            });
        }
        workers.join_all().await;
    }
    done.store(true, Ordering::Relaxed);
    rotating.await.unwrap();
    println!("{} partitions", recorded_partitions(&test).await);
    assert_eq!(test.counts().await, Counts { received: 300, unique: 150, duplicates: 150, conflicts: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_replicas_that_maintain_at_once_one_closes_the_partition() {
    let test = Arc::new(TestStore::postgres().await);
    for round in 0..5 {
        test.commit(&batch_of(events([round]))).await;
        age_partition(&test).await;
        let mut replicas = JoinSet::new();
        for _ in 0..4 {
            let test = Arc::clone(&test);
            replicas.spawn(async move { maintain(&test).await });
        }
        replicas.join_all().await;
        assert_eq!((recorded_partitions(&test).await, partitions(&test).await), (round + 2, round + 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_delays_dropping_a_partition_but_neither_closing_it_nor_a_batch() {
    let test = TestStore::postgres().await;
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    test.commit(&batch_of(events([1]))).await;
    let mut backup = direct(settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE receipts IN ACCESS SHARE MODE").execute(&mut backup).await.unwrap();

    age_partition(&test).await;
    maintain(&test).await;
    assert_eq!(recorded_partitions(&test).await, 2);
    test.age("receipt_epochs", "closed_at", RECEIPTS_TTL * 2).await;
    maintain(&test).await;
    assert_eq!(recorded_partitions(&test).await, 2, "the backup still reads the old one");
    test.commit(&batch_of(events([2]))).await;

    sqlx::raw_sql("COMMIT").execute(&mut backup).await.unwrap();
    maintain(&test).await;
    assert_eq!((recorded_partitions(&test).await, partitions(&test).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_dump_runs_no_batch_waits_for_a_partition_to_be_dropped() {
    let test = Arc::new(TestStore::postgres().await);
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    test.commit(&batch_of(events([1]))).await;
    age_partition(&test).await;
    maintain(&test).await;
    test.age("receipt_epochs", "closed_at", RECEIPTS_TTL * 2).await;
    let mut dump = direct(settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE receipts IN ACCESS SHARE MODE").execute(&mut dump).await.unwrap();
    let age = "SELECT (extract(epoch FROM clock_timestamp() - now()) * 1000)::int8";
    while sqlx::query_scalar::<_, i64>(age).fetch_one(&mut dump).await.unwrap() < 1_100 {
        tokio::task::yield_now().await;
    }
    let maintaining = tokio::spawn({
        let test = Arc::clone(&test);
        async move { maintain(&test).await }
    });
    let mut waited = 0;
    while !maintaining.is_finished() {
        waited +=
            test.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'receipts'::regclass").await;
    }
    maintaining.await.unwrap();
    assert_eq!((waited, recorded_partitions(&test).await), (0, 2), "it is left for later without a wait");
    sqlx::raw_sql("COMMIT").execute(&mut dump).await.unwrap();
    maintain(&test).await;
    assert_eq!(recorded_partitions(&test).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_did_not_get_its_lock_waits_longer_the_next_time() {
    let test = Arc::new(TestStore::postgres().await);
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    test.commit(&batch_of(events([1]))).await;
    age_partition(&test).await;
    let mut slow = direct(settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE").execute(&mut slow).await.unwrap();
    for _ in 0..2 {
        maintain(&test).await;
        assert_eq!(recorded_partitions(&test).await, 1, "the slow transaction prevents it");
    }
    let maintaining = tokio::spawn({
        let test = Arc::clone(&test);
        async move { maintain(&test).await }
    });
    wait_until("the third step waits for more than two seconds", PATIENCE, async || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'receipts'::regclass \
                     AND waitstart < clock_timestamp() - interval '2.2 seconds'";
        if test.number(waits).await > 0 { Ok(()) } else { Err("it does not".to_owned()) }
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut slow).await.unwrap();
    maintaining.await.unwrap();
    assert_eq!(recorded_partitions(&test).await, 2);
}
