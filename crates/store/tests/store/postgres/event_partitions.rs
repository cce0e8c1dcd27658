//! Events are unique across the partitions by which they are removed.

use std::sync::Arc;
use std::time::Duration;

use sluice_store::postgres::PostgresSettings;
use sluice_store::{Counts, EventQuery, Maintenance, StoreError};
use sluice_tests::wait_until;
use sqlx::{AssertSqlSafe, Connection};

use crate::batches::*;
use crate::stores::{Place, TestStore, direct, fresh_schema, opened};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn settings(test: &TestStore) -> &PostgresSettings {
    let Place::Postgres(settings) = &test.place else { panic!("a schema of PostgreSQL") };
    settings
}

/// A store whose partitions hold so few events.
pub(super) async fn with_partitions_of(rows: u64) -> TestStore {
    TestStore::on_postgres(PostgresSettings { partition_rows: rows, ..fresh_schema() }).await
}

/// The same schema as another replica uses it.
pub(super) async fn another_replica(test: &TestStore) -> TestStore {
    TestStore::on_postgres(settings(test).clone()).await
}

pub(super) async fn maintain_partitions(test: &TestStore) {
    test.store.maintain_partitions(None).await.expect("maintenance of partitions");
}

pub(super) async fn maintain(test: &TestStore) -> u64 {
    let maintenance = Maintenance { receipts_ttl: DAY, retention: Some(DAY), max_duration: Duration::from_secs(5) };
    test.store.maintain(&maintenance).await.expect("maintenance").events
}

/// Makes so many partitions, each with ten events, and an empty open one.
pub(super) async fn fill(test: &TestStore, partitions: u32) {
    for partition in 0..partitions {
        test.commit(&batch_of(events(partition * 10..partition * 10 + 10))).await;
        maintain_partitions(test).await;
    }
    assert_eq!(listed(test).await, i64::from(partitions) + 1);
}

async fn listed(test: &TestStore) -> i64 {
    test.number("SELECT count(*) FROM event_partitions").await
}

async fn filters(test: &TestStore) -> i64 {
    test.number("SELECT count(DISTINCT filter) FROM event_filters").await
}

#[tokio::test]
async fn each_closed_partition_is_vacuumed_once() {
    let test = with_partitions_of(10).await;
    fill(&test, 3).await;
    let vacuums = "SELECT coalesce(sum(pg_stat_get_vacuum_count(c.oid)), 0)::int8 FROM pg_class AS c \
                   WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relname ~ '^event_rows_[0-9]+$'";
    wait_until("all three are vacuumed", PATIENCE, || async {
        maintain_partitions(&test).await;
        match test.number(vacuums).await {
            3 => Ok(()),
            vacuums => Err(format!("{vacuums} vacuums")),
        }
    })
    .await;
}

/// The statistics of the server say nothing of a new partition, so they cannot make it read the index.
#[tokio::test]
async fn a_page_of_a_topic_reads_only_its_newest_events() {
    let test = with_partitions_of(1_000_000).await;
    for batch in 0..20 {
        test.commit(&batch_of(events(batch * 5_000..(batch + 1) * 5_000))).await;
    }
    let query = EventQuery { topic: Some("t".into()), limit: 10, ..EventQuery::default() };
    let index = |figure: &str| {
        format!(
            "SELECT coalesce(sum({figure}(i.indexrelid)), 0)::int8 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid \
             WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relname ~ '^event_rows_[0-9]+$'"
        )
    };
    let (scans, read) = (index("pg_stat_get_numscans"), index("pg_stat_get_tuples_returned"));
    let before = (test.number(&scans).await, test.number(&read).await);
    let mut pages = 0;
    wait_until("the server counts the scans of the pages", PATIENCE, || {
        pages += 1;
        let (test, query, scans, before) = (&test, &query, &scans, before.0);
        async move {
            assert_eq!(test.store.events(query).await.expect("a page").events.len(), 10);
            let scans = test.number(scans).await - before;
            if scans > 0 { Ok(()) } else { Err(format!("{scans} scans")) }
        }
    })
    .await;
    let read = test.number(&read).await - before.1;
    assert!(read < 200 * pages, "{pages} pages read {read} entries of indexes");
}

async fn tables(test: &TestStore) -> i64 {
    test.number(
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename ~ '^event_rows_[0-9]+$'",
    )
    .await
}

/// Waits until only the table of the open partition is left.
async fn wait_until_dropped(test: &TestStore) {
    wait_until("removed partitions are dropped", PATIENCE, || async {
        maintain(test).await;
        match tables(test).await {
            1 => Ok(()),
            tables => Err(format!("{tables} tables")),
        }
    })
    .await;
}

/// Sends the ids once more, one of them with another payload, and expects that none is new.
pub(super) async fn expect_duplicates(test: &TestStore, ids: std::ops::Range<u32>, why: &str) {
    let (rows, before) = (test.rows().await, test.counts().await);
    let mut sent = events(ids.clone());
    sent[0] = event("t", ids.start, "{\"another\":1}");
    let count = u64::from(ids.end - ids.start);
    let outcome = test.commit(&batch_of(sent)).await;
    assert_eq!(outcome.counts, Counts { received: count, unique: 0, duplicates: count, conflicts: 1 }, "{why}");
    assert_eq!((test.rows().await, test.counts().await.unique), (rows, before.unique), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_found_in_every_partition_with_and_without_filters() {
    let test = with_partitions_of(10).await;
    fill(&test, 5).await;
    test.commit(&batch_of(events(50..55))).await;
    expect_duplicates(&test, 0..55, "by the replica that built the filters").await;
    let other = another_replica(&test).await;
    expect_duplicates(&other, 0..55, "by one that has no filter yet").await;
    maintain_partitions(&other).await;
    expect_duplicates(&other, 0..55, "by one that has loaded them").await;
    let without = PostgresSettings { filter_memory: 0, ..settings(&test).clone() };
    let without = TestStore::on_postgres(without).await;
    maintain_partitions(&without).await;
    expect_duplicates(&without, 0..55, "by one that has no memory for them").await;
    assert_eq!((filters(&test).await, test.rows().await), (5, 55));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_and_known_events_in_one_batch_are_told_apart() {
    let test = with_partitions_of(10).await;
    fill(&test, 3).await;
    let outcome = test.commit(&batch_of(events((5..15).chain(28..40)))).await;
    assert_eq!(outcome.counts, Counts { received: 22, unique: 10, duplicates: 12, conflicts: 0 });
    assert_eq!(test.rows().await, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_through_all_partitions_and_each_event_is_found() {
    let test = with_partitions_of(10).await;
    fill(&test, 9).await;
    test.commit(&batch_of(events(90..93))).await;
    for limit in [1, 7, 1_000] {
        let (mut query, mut ids) = (EventQuery { limit, ..EventQuery::default() }, Vec::new());
        loop {
            let page = test.store.events(&query).await.unwrap();
            ids.extend(page.events.iter().map(|event| event.event_id.parse::<u32>().unwrap()));
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(ids.iter().copied().eq((0..93).rev()), "by {limit}: {ids:?}");
    }
    let rare = EventQuery { topic: Some("rare".to_owned()), limit: 10, ..EventQuery::default() };
    assert_eq!(test.store.events(&rare).await.unwrap().events, []);
    for id in [0, 45, 92] {
        assert_eq!(test.store.event("t", &id.to_string(), 10).await.unwrap().len(), 1, "{id}");
    }
    assert_eq!(test.store.event("t", "93", 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_filter_is_noticed_looked_up_without_and_built_again() {
    let test = with_partitions_of(10).await;
    fill(&test, 2).await;
    let before = test.number("SELECT count(*) FROM event_filters").await;
    for damage in [
        // Flipping bits of the fingerprints makes a filter say "no" of keys that it has.
        "UPDATE event_filters SET content = set_byte(content, 100, 255 - get_byte(content, 100)) || ''::bytea",
        "UPDATE event_filters SET content = substring(content FROM 1 FOR 40)",
        "DELETE FROM event_filters",
        "UPDATE event_filters SET content = (SELECT content FROM event_filters ORDER BY filter LIMIT 1)",
    ] {
        test.run(damage).await;
        let other = another_replica(&test).await;
        maintain_partitions(&other).await;
        expect_duplicates(&other, 0..20, damage).await;
        maintain_partitions(&other).await;
        expect_duplicates(&other, 0..20, damage).await;
        assert_eq!(test.number("SELECT count(*) FROM event_filters").await, before, "{damage}: all are built again");
        let sound = "SELECT count(*) FROM event_partitions WHERE filter IS NOT NULL";
        assert_eq!(test.number(sound).await, 2, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_number_that_is_used_again_with_other_keys_has_another_filter() {
    let test = with_partitions_of(10).await;
    fill(&test, 1).await;
    // This process has the filter of partition 1 in memory. A standby is promoted that has lost the end of partition 1:
    // it is still open there, and has none of the events yet.
    let promoted = "DELETE FROM event_rows; DELETE FROM counters; DELETE FROM series; DELETE FROM series_batches; \
                    DELETE FROM event_filters; DELETE FROM receipts; \
                    ALTER TABLE event_rows DETACH PARTITION event_rows_2; DROP TABLE event_rows_2; \
                    ALTER TABLE audit_rows DETACH PARTITION audit_rows_2; DROP TABLE audit_rows_2; \
                    DELETE FROM event_partitions WHERE number = 2; \
                    UPDATE event_partitions SET closed_at = NULL, last_batch = NULL, filter = NULL; \
                    UPDATE event_layout SET version = gen_random_uuid(); SELECT setval('batches', (1 << 24) + 1)";
    test.run(promoted).await;
    let other = another_replica(&test).await;
    other.commit(&batch_of(events(100..110))).await;
    maintain_partitions(&other).await;
    assert_eq!(listed(&test).await, 2, "partition 1 was closed with other keys");
    expect_duplicates(&test, 100..110, "the old filter does not have them").await;
    maintain_partitions(&test).await;
    expect_duplicates(&test, 100..110, "with the new filter").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_batches_that_run_and_two_replicas_close_one_partition_once() {
    let test = with_partitions_of(10).await;
    test.commit(&batch_of(events(0..10))).await;
    let (one, other) = (another_replica(&test).await, another_replica(&test).await);
    let (running, _) = test.store.begin(&[]).await.unwrap();
    let closing = tokio::spawn(async move {
        tokio::join!(one.store.maintain_partitions(None), other.store.maintain_partitions(None))
    });
    wait_until("the first one waits for the batch", PATIENCE, || async {
        let waiting = test.number("SELECT count(*) FROM pg_locks WHERE NOT granted").await;
        if waiting > 0 { Ok(()) } else { Err("nobody waits".to_owned()) }
    })
    .await;
    assert_eq!(listed(&test).await, 1, "it is open while a batch runs");
    running.rollback().await;
    let (first, second) = closing.await.unwrap();
    first.unwrap();
    second.unwrap();
    assert_eq!((listed(&test).await, tables(&test).await), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_moved_the_numbers_and_was_rolled_back_is_made_up_for() {
    let test = TestStore::postgres().await;
    test.commit(&batch_of(events(0..10))).await;
    // A sequence is not rolled back.
    test.run("SELECT setval('batches', 2 << 24)").await;
    let refused = sluice_store::commit::commit(&*test.store, &test.options, &batch_of(events([10]))).await;
    assert!(matches!(&refused, Err(StoreError::Conflict(_))), "{refused:?}");
    maintain_partitions(&test).await;
    test.commit(&batch_of(events([10]))).await;
    expect_duplicates(&test, 0..11, "both partitions").await;
    assert_eq!(listed(&test).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_partitions_are_dropped_and_their_events_are_counted() {
    let test = with_partitions_of(10).await;
    fill(&test, 2).await;
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(20..25))).await;
    assert_eq!(maintain(&test).await, 20);
    assert_eq!((test.rows().await, tables(&test).await, listed(&test).await, filters(&test).await), (5, 1, 1, 0));
    assert_eq!(test.number("SELECT sum(events)::int8 FROM ledger WHERE kind = 'removed'").await, 20);
    let page = test.store.events(&EventQuery { limit: 100, ..EventQuery::default() }).await.unwrap();
    assert_eq!((page.events.len(), page.next), (5, None));
    // A cursor of what was removed leads nowhere, and to no error.
    let gone = EventQuery { before: Some(5), limit: 100, ..EventQuery::default() };
    assert_eq!(test.store.events(&gone).await.unwrap().events, []);
    assert_eq!(test.store.event("t", "3", 1).await.unwrap(), []);
    let outcome = test.commit(&batch_of(events(0..20))).await;
    assert_eq!(outcome.counts.unique, 20, "they are new again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_partition_that_a_dump_reads_is_hidden_at_once_and_dropped_later() {
    let test = with_partitions_of(10).await;
    fill(&test, 2).await;
    test.make_stored_events_older(DAY * 2).await;
    let mut dump = direct(settings(&test)).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM event_rows; SELECT pg_sleep(1.5)";
    sqlx::raw_sql(begin).execute(&mut dump).await.unwrap();
    assert_eq!(maintain(&test).await, 20);
    assert_eq!((test.rows().await, tables(&test).await), (0, 3), "hidden, and not dropped");
    assert_eq!(test.commit(&batch_of(events(0..3))).await.counts.unique, 3, "and batches do not wait");
    let read: i64 = sqlx::query_scalar("SELECT count(*) FROM event_rows").fetch_one(&mut dump).await.unwrap();
    assert_eq!(read, 20, "the dump has all of them");
    let overdue = async || test.store.overdue(Some(DAY)).await.unwrap();
    let waiting = overdue().await;
    assert_eq!(waiting.events, Some(Duration::ZERO), "queries do not find them");
    // They were to go a day ago.
    assert!(waiting.tables.is_some_and(|time| (DAY..DAY + PATIENCE).contains(&time)), "{waiting:?}");
    dump.close().await.unwrap();
    wait_until_dropped(&test).await;
    assert_eq!(overdue().await.tables, Some(Duration::ZERO), "they are dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detach_that_was_interrupted_is_finished() {
    let test = with_partitions_of(10).await;
    fill(&test, 1).await;
    test.make_stored_events_older(DAY * 2).await;
    let mut reader = direct(settings(&test)).await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM event_rows").execute(&mut reader).await.unwrap();
    let mut detaching = direct(settings(&test)).await;
    let detach = "SET statement_timeout = 300; ALTER TABLE event_rows DETACH PARTITION event_rows_1 CONCURRENTLY";
    for statement in detach.split("; ") {
        let ran = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut detaching).await;
        assert_eq!(ran.is_err(), statement.starts_with("ALTER"), "{ran:?}");
    }
    assert_eq!(test.number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending").await, 1);
    reader.close().await.unwrap();
    wait_until_dropped(&test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_partition_is_closed_by_its_age_if_it_has_events() {
    let test = TestStore::postgres().await;
    for (retention, age, closed) in [(None, DAY, 0), (Some(DAY * 16), DAY, 0), (Some(DAY * 8), DAY * 2, 0)] {
        test.age("event_partitions", "opened_at", age).await;
        test.store.maintain_partitions(retention).await.unwrap();
        assert_eq!(listed(&test).await - 1, closed, "{retention:?}");
    }
    test.commit(&batch_of(events(0..10))).await;
    test.store.maintain_partitions(None).await.unwrap();
    assert_eq!(listed(&test).await, 1, "without retention its age does not matter");
    test.store.maintain_partitions(Some(DAY * 8)).await.unwrap();
    assert_eq!(listed(&test).await, 2);
}

/// Notes how many minutes ago the first program that knows partitions started, and a worker has committed that does not
/// know them; and whether one has that does.
pub(super) async fn note_commits(test: &TestStore, started: u32, former_minutes_ago: u32, with_partitions: bool) {
    test.run(&format!(
        "UPDATE _sqlx_migrations SET installed_on = now() - interval '{started} minutes' WHERE version = 6; \
         DELETE FROM commit_marks; \
         INSERT INTO commit_marks (worker, number, committed_at) \
         VALUES ('old/0', 1, clock_timestamp() - interval '{former_minutes_ago} minutes')"
    ))
    .await;
    if with_partitions {
        test.run("INSERT INTO commit_marks (worker, number, knows_partitions) VALUES ('new/0', 1, true)").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_with_one_table_gets_partitions_once_no_former_program_runs() {
    let mut test = TestStore::in_one_table().await;
    test.commit(&batch_of(events(0..30))).await;
    for (started, minutes, with_partitions) in [(10, 60, true), (60, 0, true), (60, 10, true), (60, 60, false)] {
        note_commits(&test, started, minutes, with_partitions).await;
        maintain_partitions(&test).await;
        assert_eq!(listed(&test).await, 0, "{started} and {minutes} minutes, {with_partitions}");
    }
    let running = another_replica(&test).await;
    running.commit(&batch_of(events(30..40))).await;
    let all = EventQuery { limit: 100, ..EventQuery::default() };
    // Its connections have plans of the queries.
    assert_eq!(running.store.events(&all).await.unwrap().events.len(), 40);
    note_commits(&test, 20, 20, true).await;
    maintain_partitions(&test).await;
    assert_eq!((listed(&test).await, filters(&test).await), (2, 1));
    for (replica, why) in
        [(&test, "the one that switched"), (&running, "one that runs"), (&another_replica(&test).await, "a new one")]
    {
        expect_duplicates(replica, 0..40, why).await;
    }
    running.commit(&batch_of(events(40..50))).await;
    expect_duplicates(&test, 0..50, "stored before and after").await;
    let page = running.store.events(&all).await.unwrap();
    let ids: Vec<u32> = page.events.iter().map(|event| event.event_id.parse().unwrap()).collect();
    assert!(ids.iter().copied().eq((0..50).rev()), "{ids:?}");
    assert!(page.events.iter().all(|event| !event.damaged && event.payload == "{}"), "{page:?}");
    assert_eq!(test.store.event("t", "7", 1).await.unwrap().len(), 1);

    // Its old rows go one by one, and then the table.
    test.in_one_table = false;
    test.make_stored_events_older(DAY * 2).await;
    assert_eq!(maintain(&test).await, 50);
    assert_eq!((test.rows().await, tables(&test).await), (0, 1));
    assert_eq!(test.commit(&batch_of(events(0..50))).await.counts.unique, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_know_partitions_neither_starts_nor_writes() {
    let test = TestStore::postgres().await;
    test.commit(&batch_of(events(0..3))).await;
    // What such a program does: it takes the number of a batch from the sequence, and knows two types of payloads.
    let mut former = direct(settings(&test)).await;
    let batch = sqlx::query("SELECT nextval('event_batches')").fetch_one(&mut former).await;
    assert!(batch.unwrap_err().to_string().contains("does not exist"));
    let copied = former.copy_in_raw("COPY events (key) FROM STDIN").await.unwrap().finish().await;
    assert!(copied.unwrap_err().to_string().contains("view"));
    assert_eq!(test.number("SELECT count(*) FROM settings WHERE value IN ('json', 'jsonb')").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_a_killed_process_has_begun_is_cleared_away() {
    let test = with_partitions_of(10).await;
    test.run("INSERT INTO event_filters VALUES (gen_random_uuid(), 0, 'begun')").await;
    fill(&test, 1).await;
    assert_eq!(test.number("SELECT count(*) FROM event_filters WHERE content = 'begun'").await, 0);
    assert_eq!(filters(&test).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_send_the_same_events_while_partitions_are_closed_store_each_once() {
    let test = Arc::new(with_partitions_of(50).await);
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let replica = TestStore { store: opened(settings(&test)).await, ..another_replica(&test).await };
        replicas.spawn(async move {
            for batch in 0..40_u32 {
                // Each batch has ten new events and twenty of any earlier one.
                let old = (0..20).map(|n| (batch * 7 + n * 13) % (batch * 10 + 1));
                let sent: Vec<_> = (batch * 10..batch * 10 + 10).chain(old).collect();
                replica.commit_until_done(&replica.options, &batch_of(events(sent))).await;
                replica.store.maintain_partitions(None).await.expect("maintenance of partitions");
            }
        });
    }
    replicas.join_all().await;
    let counts = test.counts().await;
    assert_eq!((test.rows().await, counts.unique), (400, 400));
    assert_eq!(counts.received, counts.unique + counts.duplicates);
    assert_eq!(test.number("SELECT count(DISTINCT event_id) FROM events").await, 400);
    assert!(listed(&test).await > 5, "{} partitions", listed(&test).await);
}
