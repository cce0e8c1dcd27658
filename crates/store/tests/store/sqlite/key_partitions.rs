//! Events are unique across the partitions of their keys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_event::Keyer;
use sluice_store::sqlite::{SqliteSettings, SqliteStore};
use sluice_store::{Counts, EventQuery, Maintenance};

use crate::batches::*;
use crate::stores::{Place, TestStore, make_old_file};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn path(test: &TestStore) -> &Path {
    let Place::Sqlite(path) = &test.place else { panic!("a file of SQLite") };
    path
}

/// The same file as another process opens it, with partitions of so many keys.
async fn opened(path: &Path, partition_keys: u64, filter_memory: u64) -> TestStore {
    let settings = SqliteSettings { dedup_cache_keys: 0, partition_keys, filter_memory };
    let store = SqliteStore::open_with(path, &Keyer::default(), &settings).await.expect("the file");
    TestStore::on_sqlite(path.to_owned(), Arc::new(store))
}

pub async fn with_partitions_of(keys: u64) -> TestStore {
    let test = TestStore::sqlite().await;
    opened(path(&test), keys, 1 << 20).await
}

pub async fn another_process(test: &TestStore) -> TestStore {
    opened(path(test), 10, 1 << 20).await
}

pub async fn maintain_partitions(test: &TestStore) {
    test.store.maintain_partitions(None).await.expect("maintenance of partitions");
}

pub async fn maintain(test: &TestStore) -> u64 {
    let maintenance = Maintenance { receipts_ttl: DAY, retention: Some(DAY), max_duration: Duration::from_secs(5) };
    test.store.maintain(&maintenance).await.expect("maintenance").events
}

/// Makes so many partitions, each with ten keys, and an empty open one.
pub async fn fill(test: &TestStore, partitions: u32) {
    for partition in 0..partitions {
        test.commit(&batch_of(events(partition * 10..partition * 10 + 10))).await;
        maintain_partitions(test).await;
    }
    assert_eq!(listed(test).await, i64::from(partitions) + 1);
}

async fn listed(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM key_partitions").await
}

pub async fn filters(test: &TestStore) -> i64 {
    test.number("SELECT count(DISTINCT filter) FROM key_filters").await
}

async fn tables(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'event_keys_*'").await
}

/// Sends the ids once more, one of them with another payload, and expects that none is new.
pub async fn expect_duplicates(test: &TestStore, ids: std::ops::Range<u32>, why: &str) {
    // Not by `counts`: an older version has written no series.
    let (rows, before) = (test.rows().await, test.statistics().await.total);
    let mut sent = events(ids.clone());
    sent[0] = event("t", ids.start, "{\"another\":1}");
    let count = u64::from(ids.end - ids.start);
    let outcome = test.commit(&batch_of(sent)).await;
    assert_eq!(outcome.counts, Counts { received: count, unique: 0, duplicates: count, conflicts: 1 }, "{why}");
    assert_eq!((test.rows().await, test.statistics().await.total.unique), (rows, before.unique), "{why}");
}

/// Lists all events in pages, and expects these ids, newest first.
async fn expect_listed(test: &TestStore, ids: impl Iterator<Item = u32> + Clone) {
    for limit in [1, 7, 1_000] {
        let (mut query, mut seen) = (EventQuery { limit, ..EventQuery::default() }, Vec::new());
        loop {
            let page = test.store.events(&query).await.unwrap();
            seen.extend(page.events.iter().map(|event| event.event_id.parse::<u32>().unwrap()));
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(seen.iter().copied().eq(ids.clone()), "by {limit}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_found_in_every_partition_with_and_without_filters() {
    let test = with_partitions_of(10).await;
    fill(&test, 5).await;
    test.commit(&batch_of(events(50..55))).await;
    expect_duplicates(&test, 0..55, "by the process that built the filters").await;
    let other = another_process(&test).await;
    expect_duplicates(&other, 0..55, "by one that has no filter yet").await;
    maintain_partitions(&other).await;
    expect_duplicates(&other, 0..55, "by one that has loaded them").await;
    let without = opened(path(&test), 10, 0).await;
    let figures = without.store.maintain_partitions(None).await.unwrap().expect("partitions");
    assert_eq!((figures.partitions, figures.without_filter, figures.filter_bytes), (6, 5, 0));
    expect_duplicates(&without, 0..55, "by one that has no memory for them").await;
    assert_eq!((filters(&test).await, test.rows().await), (5, 55));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_and_known_events_in_one_batch_are_told_apart() {
    let test = with_partitions_of(10).await;
    fill(&test, 3).await;
    test.commit(&batch_of(events(30..35))).await;
    let outcome = test.commit(&batch_of(events((5..15).chain(28..45)))).await;
    assert_eq!(outcome.counts, Counts { received: 27, unique: 10, duplicates: 17, conflicts: 0 });
    expect_listed(&test, (0..45).rev()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_found_by_its_key_in_every_partition() {
    let test = with_partitions_of(10).await;
    fill(&test, 3).await;
    test.commit(&batch_of(events(30..33))).await;
    let other = another_process(&test).await;
    for store in [&test.store, &other.store] {
        for id in [0, 15, 29, 32] {
            assert_eq!(store.event("t", &id.to_string(), 10).await.unwrap().len(), 1, "{id}");
        }
        assert_eq!(store.event("t", "33", 10).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_rolled_back_is_new_in_the_next_transaction() {
    let test = with_partitions_of(10).await;
    fill(&test, 1).await;
    test.refuse_poison().await;
    let sent = || [event("t", 10, "{}"), event("t", 11, "\"poison\""), event("t", 3, "{}"), event("t", 12, "{}")];
    let outcome = test.commit(&batch_of(sent().to_vec())).await;
    assert_eq!(outcome.counts, Counts { received: 3, unique: 2, duplicates: 1, conflicts: 0 });
    assert_eq!(outcome.dead_lettered, 1);
    test.accept_poison().await;
    let outcome = test.commit(&batch_of(sent().to_vec())).await;
    assert_eq!(outcome.counts, Counts { received: 4, unique: 1, duplicates: 3, conflicts: 0 });
    let keys = "SELECT count(*) FROM (SELECT key FROM event_keys_1 UNION ALL SELECT key FROM event_keys_2)";
    assert_eq!((test.rows().await, test.number(keys).await), (13, 13));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_filter_is_noticed_looked_up_without_and_built_again() {
    let test = with_partitions_of(10).await;
    fill(&test, 2).await;
    let before = test.number("SELECT count(*) FROM key_filters").await;
    for damage in [
        // Other fingerprints make a filter say "no" of keys that it has.
        "UPDATE key_filters SET content = CAST(substr(content, 1, 100) || zeroblob(length(content) - 100) AS BLOB)",
        "UPDATE key_filters SET content = substr(content, 1, 40)",
        "DELETE FROM key_filters",
        "UPDATE key_filters SET content = (SELECT content FROM key_filters ORDER BY filter LIMIT 1)",
    ] {
        test.run(damage).await;
        let other = another_process(&test).await;
        maintain_partitions(&other).await;
        expect_duplicates(&other, 0..20, damage).await;
        maintain_partitions(&other).await;
        expect_duplicates(&other, 0..20, damage).await;
        assert_eq!(test.number("SELECT count(*) FROM key_filters").await, before, "{damage}: all are built again");
        let sound = "SELECT count(*) FROM key_partitions WHERE filter IS NOT NULL";
        assert_eq!(test.number(sound).await, 2, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_writes_to_or_that_was_put_back_is_not_read_by_old_filters() {
    let test = with_partitions_of(10).await;
    fill(&test, 1).await;
    // This process has the filter of partition 1 in memory. In the file it is open again, without any of its keys.
    let restored = "DELETE FROM events; DELETE FROM counters; DELETE FROM series; DELETE FROM receipts; DELETE FROM key_filters; \
                    DROP TABLE event_keys_2; DELETE FROM event_keys_1; DELETE FROM key_partitions WHERE number = 2; \
                    UPDATE key_partitions SET last_seq = NULL, filter = NULL, keys = 0; \
                    UPDATE key_layout SET version = lower(hex(randomblob(16)))";
    test.run(restored).await;
    let other = another_process(&test).await;
    other.commit(&batch_of(events(100..110))).await;
    maintain_partitions(&other).await;
    assert_eq!(listed(&test).await, 2, "partition 1 was closed with other keys");
    expect_duplicates(&test, 100..110, "the old filter does not have them").await;
    maintain_partitions(&test).await;
    expect_duplicates(&test, 100..110, "with the new filter").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_removed_events_are_dropped_and_their_events_are_new_again() {
    let test = with_partitions_of(10).await;
    fill(&test, 2).await;
    test.commit(&batch_of(events(20..24))).await;
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(24..28))).await;
    assert_eq!(maintain(&test).await, 24);
    assert_eq!((test.rows().await, tables(&test).await), (4, 3), "rows go first");
    let again = test.commit(&batch_of(events((0..3).chain(20..25)))).await;
    assert_eq!(again.counts, Counts { received: 8, unique: 7, duplicates: 1, conflicts: 0 });
    maintain_partitions(&test).await;
    maintain_partitions(&test).await;
    assert_eq!((tables(&test).await, listed(&test).await, filters(&test).await), (2, 2, 1));
    assert_eq!(test.number("SELECT sum(events) FROM ledger WHERE kind = 'removed'").await, 24);
    expect_listed(&test, [23, 22, 21, 20, 2, 1, 0, 27, 26, 25, 24].into_iter()).await;
    assert_eq!(test.store.event("t", "15", 1).await.unwrap(), []);
    assert_eq!(test.store.event("t", "21", 1).await.unwrap().len(), 1);
    expect_duplicates(&test, 20..28, "each is stored once").await;
    assert_eq!(test.commit(&batch_of(events(3..20))).await.counts.unique, 17, "they are new again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_partition_is_closed_by_its_age_if_it_has_keys() {
    let test = TestStore::sqlite().await;
    for (retention, age) in [(None, DAY), (Some(DAY * 16), DAY), (Some(DAY * 8), DAY * 2)] {
        test.age("key_partitions", "opened_at", age).await;
        test.store.maintain_partitions(retention).await.unwrap();
        assert_eq!(listed(&test).await, 1, "{retention:?}");
    }
    test.commit(&batch_of(events(0..10))).await;
    test.store.maintain_partitions(None).await.unwrap();
    assert_eq!(listed(&test).await, 1, "without retention its age does not matter");
    test.store.maintain_partitions(Some(DAY * 8)).await.unwrap();
    assert_eq!(listed(&test).await, 2);
}

/// Lets the time be over in which the older version can be started again.
async fn end_rollback_time(test: &TestStore) {
    test.age("key_layout", "migrated_at", DAY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_an_older_version_keeps_its_events_their_order_and_what_is_a_duplicate() {
    let source = TestStore::sqlite().await;
    source.commit(&batch_of(events(0..30))).await;
    let old = make_old_file(path(&source)).await;
    let by_index = "SELECT count(*) FROM sqlite_schema WHERE name = 'events_key'";
    let test = opened(&old, 12, 1 << 20).await;
    expect_duplicates(&test, 0..30, "before anything is copied").await;
    assert_eq!(test.commit(&batch_of(events(30..40))).await.counts.unique, 10);
    maintain_partitions(&test).await;
    assert_eq!((test.number(by_index).await, tables(&test).await), (1, 2), "copied, and the index is still there");
    // The process is killed, and started again.
    let test = opened(&old, 12, 1 << 20).await;
    let running = opened(&old, 12, 1 << 20).await;
    assert_eq!(test.commit(&batch_of(events(40..50))).await.counts.unique, 10);
    expect_duplicates(&running, 0..50, "copied or not").await;
    end_rollback_time(&test).await;
    maintain_partitions(&test).await;
    assert_eq!(test.number(by_index).await, 0);
    for (process, why) in
        [(&test, "the one that switched"), (&running, "one that runs"), (&another_process(&test).await, "a new one")]
    {
        expect_duplicates(process, 0..50, why).await;
    }
    running.commit(&batch_of(events(50..60))).await;
    expect_duplicates(&test, 0..60, "stored before and after").await;
    expect_listed(&running, (0..60).rev()).await;
    assert_eq!(test.store.event("t", "7", 1).await.unwrap().len(), 1);
    assert_eq!(test.statistics().await.total.unique, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_went_while_keys_were_copied_is_new_again() {
    let source = TestStore::sqlite().await;
    source.commit(&batch_of(events(0..30))).await;
    let test = opened(&make_old_file(path(&source)).await, 10, 1 << 20).await;
    maintain_partitions(&test).await;
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(30..35))).await;
    assert_eq!(maintain(&test).await, 30);
    assert_eq!(test.commit(&batch_of(events(0..10))).await.counts.unique, 10);
    end_rollback_time(&test).await;
    maintain_partitions(&test).await;
    expect_duplicates(&test, 30..35, "not removed").await;
    expect_duplicates(&test, 0..10, "stored again").await;
    assert_eq!(test.commit(&batch_of(events(10..30))).await.counts.unique, 20);
    expect_listed(&test, (30..35).chain(0..30).rev()).await;
}

/// What it does: it compares the record of the dedup fields with its settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_refuses_to_start_once_the_index_is_gone_and_not_before() {
    let source = TestStore::sqlite().await;
    source.commit(&batch_of(events(0..3))).await;
    let test = opened(&make_old_file(path(&source)).await, 10, 1 << 20).await;
    let starts = "SELECT value = 'topic,event_id' FROM settings WHERE name = 'dedup_fields'";
    maintain_partitions(&test).await;
    assert_eq!(test.number(starts).await, 1);
    end_rollback_time(&test).await;
    maintain_partitions(&test).await;
    assert_eq!(test.number(starts).await, 0);
    another_process(&test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_send_the_same_events_while_partitions_are_closed_store_each_once() {
    let test = with_partitions_of(10).await;
    let mut processes = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let process = another_process(&test).await;
        processes.spawn(async move {
            for batch in 0..40_u32 {
                // Each batch has ten new events and twenty of any earlier one.
                let old = (0..20).map(|n| (batch * 7 + n * 13) % (batch * 10 + 1));
                let sent: Vec<_> = (batch * 10..batch * 10 + 10).chain(old).collect();
                process.commit_until_done(&process.options, &batch_of(events(sent))).await;
                process.store.maintain_partitions(None).await.expect("maintenance of partitions");
            }
        });
    }
    processes.join_all().await;
    let counts = test.counts().await;
    assert_eq!((test.rows().await, counts.unique), (400, 400));
    assert_eq!(counts.received, counts.unique + counts.duplicates);
    assert_eq!(test.number("SELECT count(DISTINCT event_id) FROM events").await, 400);
    assert!(listed(&test).await > 20, "{} partitions", listed(&test).await);
}
