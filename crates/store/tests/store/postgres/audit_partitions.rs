//! The audit trail lies in partitions beside those of the events, and is removed with them.

use std::time::Duration;

use sluice_store::Counts;
use sluice_tests::wait_until;
use sqlx::Connection;

use super::event_partitions::{
    another_replica, maintain, maintain_partitions, note_commits, settings, with_partitions_of,
};
use crate::batches::*;
use crate::stores::{TestStore, direct};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Returns the rows of the audit trail, those that were removed from it, and its tables.
async fn trail(test: &TestStore) -> (i64, i64, i64) {
    let removed = "SELECT coalesce(sum(events), 0)::int8 FROM ledger WHERE kind = 'audit_removed'";
    let tables = "SELECT count(*) FROM pg_tables \
                  WHERE schemaname = current_schema() AND tablename ~ '^audit(_rows_[0-9]+|_before)?$'";
    (test.number("SELECT count(*) FROM audit").await, test.number(removed).await, test.number(tables).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_audit_trail_go_with_the_partition_of_their_batch() {
    let mut test = with_partitions_of(10).await;
    test.options.audit = true;
    test.commit(&batch_of(events((0..10).chain(0..4)))).await;
    maintain_partitions(&test).await;
    // Duplicates of events in a closed partition belong to the batch that dropped them.
    test.commit(&batch_of(events((0..3).chain(10..12)))).await;
    assert_eq!(trail(&test).await, (7, 0, 2));
    test.make_stored_events_older(DAY * 2).await;
    test.commit(&batch_of(events(100..101))).await;
    test.commit(&batch_of(events(100..101))).await;
    let mut dump = direct(settings(&test)).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit_rows; SELECT pg_sleep(1.5)";
    sqlx::raw_sql(begin).execute(&mut dump).await.expect("a dump");
    assert_eq!(maintain(&test).await, 12);
    assert_eq!(trail(&test).await, (1, 7, 3), "hidden and counted at once, and not dropped while a dump reads them");
    dump.close().await.expect("the end of the dump");
    wait_until("the removed partitions are dropped", Duration::from_secs(30), || async {
        maintain(&test).await;
        match trail(&test).await {
            (1, 7, 1) => Ok(()),
            trail => Err(format!("{trail:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_has_only_duplicates_is_closed_by_its_age() {
    let mut test = with_partitions_of(10).await;
    test.options.audit = true;
    test.commit(&batch_of(events(0..10))).await;
    maintain_partitions(&test).await;
    let partitions = "SELECT count(*) FROM event_partitions";
    let sixteen_days = Some(DAY * 16);
    test.age("event_partitions", "opened_at", DAY * 3).await;
    test.store.maintain_partitions(sixteen_days).await.expect("maintenance");
    assert_eq!(test.number(partitions).await, 2, "an idle system needs no new ones");
    test.commit(&batch_of(events(0..10))).await;
    test.store.maintain_partitions(sixteen_days).await.expect("maintenance");
    assert_eq!(test.number(partitions).await, 3);
    assert_eq!(trail(&test).await, (10, 0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_trail_of_a_schema_with_one_table_is_kept_when_events_are_put_into_partitions() {
    let mut test = TestStore::in_one_table().await;
    test.options.audit = true;
    test.commit(&batch_of(events((0..10).chain(0..5)))).await;
    assert_eq!(trail(&test).await, (5, 0, 1));
    note_commits(&test, 20, 20, true).await;
    maintain_partitions(&test).await;
    test.in_one_table = false;
    let outcome = test.commit(&batch_of(events(0..10))).await;
    assert_eq!(outcome.counts, Counts { received: 10, duplicates: 10, ..Counts::default() });
    assert_eq!(trail(&test).await, (15, 0, 2), "the rows before are in their table");
    test.age("audit_before", "at", DAY * 3).await;
    test.make_stored_events_older(DAY * 2).await;
    maintain(&test).await;
    assert_eq!(trail(&test).await, (0, 15, 2), "one table for new rows, and the one before, which is empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_writes_to_the_partition_that_another_one_has_opened() {
    let mut test = with_partitions_of(10).await;
    test.options.audit = true;
    let other = another_replica(&test).await;
    test.commit(&batch_of(events((0..10).chain(0..2)))).await;
    maintain_partitions(&other).await;
    test.commit(&batch_of(events(0..3))).await;
    assert_eq!(trail(&test).await, (5, 0, 2));
    assert_eq!(test.number("SELECT count(*) FROM audit_rows_2").await, 3);
}
