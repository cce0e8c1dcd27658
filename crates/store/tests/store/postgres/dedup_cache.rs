//! Keys that a replica has cached, and keys that only another replica stored.

use std::sync::Arc;
use std::time::Duration;

use sluice_store::commit::{Outcome, commit, replay};
use sluice_store::postgres::PostgresSettings;
use sluice_store::{CommitOptions, Counts, Maintenance, Store, StoreError};
use sluice_tests::wait_until;
use sqlx::{Connection, PgConnection};
use tokio::task::{JoinHandle, JoinSet};

use super::faults::{cut_connections, named};
use crate::batches::*;
use crate::stores::{Place, TestStore, direct, fresh_schema, opened};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn retention(retention: Duration) -> Maintenance {
    Maintenance { receipts_ttl: DAY, retention: Some(retention), max_duration: Duration::from_secs(5) }
}

/// A second replica on the same tables.
async fn replica(test: &TestStore) -> Arc<dyn Store> {
    match &test.place {
        Place::Postgres(settings) => opened(settings).await,
        Place::Sqlite(_) => unreachable!("these tests are PostgreSQL's"),
    }
}

async fn commit_until_done(store: &dyn Store, options: &CommitOptions, ids: std::ops::Range<u32>) -> Counts {
    let batch = batch_of(events(ids));
    loop {
        match commit(store, options, &batch).await {
            Ok(outcome) => return outcome.counts,
            Err(StoreError::Conflict(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_key_is_dropped_without_a_query_and_invalid_after_a_lost_connection() {
    let settings = named(fresh_schema());
    let test = TestStore::on_postgres(settings.clone()).await;
    let counts = |unique, duplicates| Counts { received: 2, unique, duplicates, conflicts: 0 };
    assert_eq!(test.commit(&batch_of(events([1, 2]))).await.counts, counts(2, 0));
    // As a failover would lose it. Were the store asked, it would be stored again.
    test.run("DELETE FROM events WHERE event_id = '1'").await;
    assert_eq!(test.commit(&batch_of(events([1, 2]))).await.counts, counts(0, 2));
    cut_connections(&settings).await;
    let options = test.options.clone();
    assert_eq!(test.commit_until_done(&options, &batch_of(events([1, 2]))).await.counts, counts(1, 1));
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
        commit_until_done(&*other, &test.options, next..next + stored).await;
        let counts = commit_until_done(&*test.store, &test.options, next..next + 50).await;
        let (stored, unique) = (u64::from(stored), 50 - u64::from(stored));
        assert_eq!(counts, Counts { received: 50, unique, duplicates: stored, conflicts: 0 }, "round {round}");
        next += 50;
    }
    assert_eq!(test.rows().await, i64::from(next));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_another_replica_removed_is_new_for_every_transaction_that_begins_later() {
    let test = TestStore::postgres().await;
    let other = replica(&test).await;
    for round in 1..=3 {
        assert_eq!(test.commit(&batch_of(events(0..10))).await.counts.unique, 10, "round {round}");
        assert_eq!(test.commit(&batch_of(events(0..10))).await.counts.duplicates, 10, "round {round}: cached");
        test.make_stored_events_older(DAY * 2).await;
        assert_eq!(other.maintain(&retention(DAY)).await.unwrap().events, 10);
        assert_eq!(test.rows().await, 0);
    }
    assert_eq!(test.commit(&batch_of(events(0..10))).await.counts.unique, 10, "its replica removed nothing itself");
    assert_eq!(test.number("SELECT value::int8 FROM settings WHERE name = 'removed_events'").await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_replica_has_forgotten_are_found_again() {
    let settings = PostgresSettings { dedup_cache_keys: 16, ..fresh_schema() };
    let test = TestStore::on_postgres(settings).await;
    let mut next = 0_u32;
    for round in 0..30 {
        // Five of the earlier ones, out of memory since, in every round but some.
        let old = if round > 3 && round % 12 != 0 { next - 120..next - 115 } else { 0..0 };
        let (duplicates, unique) = (u64::from(old.end - old.start), 50);
        let batch = batch_of(events(old.chain(next..next + 50)));
        let counts = Counts { received: unique + duplicates, unique, duplicates, conflicts: 0 };
        assert_eq!(test.commit(&batch).await.counts, counts, "round {round}");
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
        let options = CommitOptions { shard: format!("{number}"), ..test.options.clone() };
        replicas.spawn(async move {
            let mut sum = Counts::default();
            for round in 0..30 {
                let counts = commit_until_done(&*store, &options, round * 40..round * 40 + 100).await;
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

/// Two workers of a replica: the first has inserted the events 1 to 3 and is kept from committing
/// until `counters` ends; the second is about to store 2 to 5.
struct TwoWorkers {
    first: JoinHandle<Result<Outcome, StoreError>>,
    second: JoinHandle<Result<Outcome, StoreError>>,
    /// The server's process that serves the first.
    process: i32,
    counters: PgConnection,
    test: TestStore,
}

async fn two_workers() -> TwoWorkers {
    let settings = named(fresh_schema());
    let test = TestStore::on_postgres(settings.clone()).await;
    // The row, not the table: a new connection prepares its statements, which a locked table would hold up
    // before anything is inserted.
    test.run("INSERT INTO counters VALUES ('t', 'a', 0, 0, 0, 0)").await;
    let mut counters = direct(&settings).await;
    sqlx::raw_sql("BEGIN; SELECT FROM counters FOR UPDATE").execute(&mut counters).await.unwrap();
    let starts = |shard: &str, ids: std::ops::RangeInclusive<u32>| {
        let (store, options) =
            (Arc::clone(&test.store), CommitOptions { shard: shard.to_owned(), ..test.options.clone() });
        tokio::spawn(async move { commit(&*store, &options, &batch_of(events(ids))).await })
    };
    let first = starts("a", 1..=3);
    let process = waiting_process(&settings).await;
    TwoWorkers { first, second: starts("b", 2..=5), process, counters, test }
}

async fn waiting_process(settings: &PostgresSettings) -> i32 {
    let waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    wait_until("the first waits for the counters", Duration::from_secs(10), async || {
        let process = sqlx::query_scalar(waiting).bind(settings.application_name());
        let process: Option<i32> = process.fetch_optional(&mut direct(settings).await).await.unwrap();
        process.ok_or_else(|| "nobody waits".to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_worker_has_stored_meanwhile_are_duplicates() {
    let mut workers = two_workers().await;
    sqlx::raw_sql("ROLLBACK").execute(&mut workers.counters).await.unwrap();
    let counts = |unique, duplicates| Counts { received: unique + duplicates, unique, duplicates, conflicts: 0 };
    assert_eq!(workers.first.await.unwrap().unwrap().counts, counts(3, 0));
    assert_eq!(workers.second.await.unwrap().unwrap().counts, counts(2, 2));
    assert_eq!(workers.test.rows().await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_worker_failed_to_store_are_stored() {
    let mut workers = two_workers().await;
    let cut = sqlx::query("SELECT pg_terminate_backend($1)").bind(workers.process);
    cut.execute(&mut workers.counters).await.unwrap();
    let first = workers.first.await.unwrap();
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut workers.counters).await.unwrap();
    let counts = Counts { received: 4, unique: 4, ..Counts::default() };
    assert_eq!(workers.second.await.unwrap().unwrap().counts, counts);
    assert_eq!(workers.test.rows().await, 4);
    workers.counters.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_whose_event_another_replica_stored_since_is_replayed_as_a_duplicate() {
    let test = TestStore::postgres().await;
    let other = replica(&test).await;
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "\"poison\"")])).await;
    test.accept_poison().await;
    commit(&*other, &test.options, &batch_of(vec![event("t", 1, "{}")])).await.unwrap();
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    // The COPY fails and is rolled back, but the removal of the dead letter is not.
    let replayed = replay(&*test.store, &test.options, id).await.unwrap().unwrap();
    assert_eq!(replayed.counts, Counts { received: 1, unique: 0, duplicates: 1, conflicts: 1 });
    assert_eq!(test.statistics().await.dead_lettered, 0);
}

/// Returns the server's processes that serve this store.
async fn processes(settings: &PostgresSettings) -> Vec<i32> {
    let select = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY pid";
    let select = sqlx::query_scalar(select).bind(settings.application_name());
    select.fetch_all(&mut direct(settings).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_or_not_there_keeps_connections_open_and_cached_keys_valid() {
    let settings = PostgresSettings { claim_after: Duration::from_millis(1_200), ..named(fresh_schema()) };
    let test = TestStore::on_postgres(settings.clone()).await;
    test.refuse_poison().await;
    test.commit(&batch_of(vec![event("t", 1, "{}"), event("t", 2, "\"poison\"")])).await;
    test.commit(&batch_of(vec![event("t", 3, "{}")])).await;
    let id = test.store.dead_letters(None, 1).await.unwrap()[0].id;
    let before = processes(&settings).await;
    // As a lost commit would be: the store finds it missing only if it is asked.
    test.run("DELETE FROM events").await;

    for missing in [id + 1, -1, i64::MAX] {
        assert_eq!(replay(&*test.store, &test.options, missing).await.unwrap(), None);
    }
    let refused = replay(&*test.store, &test.options, id).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    let mut somebody = direct(&settings).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE events").execute(&mut somebody).await.unwrap();
    let conflict = commit(&*test.store, &test.options, &batch_of(events([7]))).await;
    assert!(matches!(conflict, Err(StoreError::Conflict(_))), "{conflict:?}");
    sqlx::raw_sql("COMMIT").execute(&mut somebody).await.unwrap();

    let cached = test.commit(&batch_of(vec![event("t", 3, "{}")])).await.counts;
    assert_eq!(cached, Counts { received: 1, unique: 0, duplicates: 1, conflicts: 0 }, "the key is still trusted");
    let after = processes(&settings).await;
    assert!(before.iter().all(|process| after.contains(process)), "{before:?} are open after it: {after:?}");
}
