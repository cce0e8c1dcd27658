//! Lost connections, frozen servers, locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluice_event::{EntryId, ReceiptId};
use sluice_store::commit::commit;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::series::BatchCounts;
use sluice_store::{CommitOptions, Counts, Store, StoreError};
use sluice_tests::postgres::PostgresServer;
use sluice_tests::wait_until;
use tokio::task::JoinSet;

use crate::batches::*;
use crate::stores::{Place, TestStore, direct, fresh_schema, on_server, options};

/// Ends the server's side of all connections that the store has open.
pub async fn cut_connections(settings: &PostgresSettings) -> u64 {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    let cut = sqlx::query(cut).bind(settings.application_name());
    cut.execute(&mut direct(settings).await).await.unwrap().rows_affected()
}

pub fn named(settings: PostgresSettings) -> PostgresSettings {
    PostgresSettings { replica: EntryId::random().to_string(), ..settings }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_mid_transaction_is_unavailable_and_repeating_is_exact() {
    let settings = named(fresh_schema());
    let test = TestStore::on_postgres(settings.clone()).await;
    let id = ReceiptId::from(EntryId::random());
    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    transaction.insert_receipts(&[id]).await.unwrap();
    assert!(cut_connections(&settings).await >= 1);
    let cut = transaction.insert_receipts(&[EntryId::random().into()]).await;
    assert!(matches!(cut, Err(StoreError::Unavailable(_))), "{cut:?}");
    drop(transaction);

    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    assert_eq!(transaction.insert_receipts(&[id]).await.unwrap().len(), 1);
    transaction.commit("", &BatchCounts::default(), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_are_exact_though_connections_are_cut_all_the_time() {
    let settings = named(fresh_schema());
    let test = Arc::new(TestStore::on_postgres(settings.clone()).await);
    let done = Arc::new(AtomicBool::new(false));
    let cutting = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut cut = 0;
            while !done.load(Ordering::Relaxed) {
                cut += cut_connections(&settings).await;
            }
            cut
        }
    });
    let mut workers = JoinSet::new();
    for worker in 0..3 {
        let test = Arc::clone(&test);
        workers.spawn(async move {
            let options = CommitOptions { shard: format!("replica/{worker}"), ..options(test.options.keyer.clone()) };
            let mut skipped = 0;
            for round in 0..30 {
                let batch = batch_of(events((0..100).map(|i| worker * 1_000 + round * 50 + i)));
                skipped += test.commit_until_done(&options, &batch).await.skipped;
            }
            skipped
        });
    }
    let skipped: u64 = workers.join_all().await.into_iter().sum();
    done.store(true, Ordering::Relaxed);
    println!("{} connections cut, {skipped} batches had been committed unseen", cutting.await.unwrap());
    let counts = test.counts().await;
    // 0..1550, 1000..2550, 2000..3550
    assert_eq!((counts.received, counts.unique, counts.duplicates), (9_000, 3_550, 5_450));
    assert_eq!(test.rows().await, 3_550);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_made_while_the_server_is_away_works_once_it_is_there() {
    let mut server = PostgresServer::start(false);
    let settings = on_server(&server);
    server.kill();
    let store = PostgresStore::connect(&settings).unwrap();
    let started = Instant::now();
    for result in [store.ping().await, store.migrate().await, store.begin(&[]).await.map(|_| ())] {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    server.start_again();
    let batch = batch_of(events(0..10));
    let outcome = commit(&store, &options(settings.keyer.clone()), &batch).await.unwrap();
    assert_eq!(outcome.counts.unique, 10, "and it was migrated on the way");

    server.kill();
    assert!(matches!(store.statistics(1_000).await, Err(StoreError::Unavailable(_))));
    server.start_again();
    let repeated = wait_until("the batch is committed", Duration::from_secs(10), async || {
        commit(&store, &options(settings.keyer.clone()), &batch).await.map_err(|e| e.to_string())
    });
    assert_eq!(repeated.await.skipped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_unavailable_within_the_claim_time() {
    let server = PostgresServer::start(false);
    let claim_after = Duration::from_secs(3);
    let settings = PostgresSettings { claim_after, ..on_server(&server) };
    let test = TestStore::on_postgres(settings).await;
    test.commit(&batch_of(events(0..10))).await;
    let (mut transaction, _) = test.store.begin(&[]).await.unwrap();
    let frozen: Vec<_> = server.process().children();
    server.process().signal(Signal::STOP);
    for pid in &frozen {
        rustix::process::kill_process(*pid, Signal::STOP).unwrap();
    }
    let started = Instant::now();
    let inserting = transaction.insert_receipts(&[EntryId::random().into()]).await;
    let elapsed = started.elapsed();
    assert!(matches!(inserting, Err(StoreError::Unavailable(_))), "{inserting:?}");
    assert!(elapsed < claim_after, "a batch's statement answered after {elapsed:?}");
    let started = Instant::now();
    let beginning = test.store.begin(&[]).await.map(|_| ());
    let elapsed = started.elapsed();
    assert!(matches!(beginning, Err(StoreError::Unavailable(_))), "{beginning:?}");
    assert!(elapsed < claim_after, "a new transaction answered after {elapsed:?}");
    let started = Instant::now();
    let asked = test.store.statistics(1_000).await;
    assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{asked:?}");
    println!("a query answered after {:?}", started.elapsed());

    for pid in frozen {
        let _ = rustix::process::kill_process(pid, Signal::CONT);
    }
    server.process().signal(Signal::CONT);
    wait_until("the store answers again", Duration::from_secs(20), async || {
        test.store.statistics(1_000).await.map_err(|e| e.to_string())
    })
    .await;
    assert_eq!(test.commit(&batch_of(events(5..15))).await.counts.unique, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_replica_holds_an_entry_for_less_than_the_claim_time() {
    let claim_after = Duration::from_secs(2);
    let test = TestStore::on_postgres(PostgresSettings { claim_after, ..fresh_schema() }).await;
    let batch = batch_of(events([1]));
    let (mut frozen, _) = test.store.begin(&[]).await.unwrap();
    frozen.insert_receipts(&[batch.entries[0].1.id.into()]).await.unwrap();
    // It does nothing from here on, and holds the receipt.
    let started = Instant::now();
    let outcome = test.commit_until_done(&test.options, &batch).await;
    let elapsed = started.elapsed();
    assert_eq!(outcome.counts.unique, 1);
    assert!(elapsed < claim_after, "the other replica waited {elapsed:?}");
    let late = frozen.commit("", &BatchCounts::default(), None).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert_eq!(test.counts().await, Counts { received: 1, unique: 1, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_a_conflict() {
    let claim_after = Duration::from_millis(1_200);
    let test = TestStore::on_postgres(PostgresSettings { claim_after, ..fresh_schema() }).await;
    let Place::Postgres(settings) = &test.place else { unreachable!() };
    let mut somebody = direct(settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE events").execute(&mut somebody).await.unwrap();
    let batch = batch_of(events([1]));
    let committed = commit(&*test.store, &test.options, &batch).await;
    assert!(matches!(committed, Err(StoreError::Conflict(_))), "{committed:?}");
    sqlx::raw_sql("COMMIT").execute(&mut somebody).await.unwrap();
    assert_eq!(test.commit(&batch).await.counts.unique, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_callers_than_connections_wait_or_are_told() {
    let test = TestStore::on_postgres(PostgresSettings { workers: 1, ..fresh_schema() }).await;
    let (transaction, _) = test.store.begin(&[]).await.unwrap();
    let refused = test.store.begin(&[]).await.map(|_| ());
    assert!(matches!(&refused, Err(StoreError::Unavailable(m)) if m.contains("no connection")), "{refused:?}");
    transaction.commit("", &BatchCounts::default(), None).await.unwrap();
    test.commit(&batch_of(events([1]))).await;
    test.store.statistics(1_000).await.expect("queries have connections of their own");
}
