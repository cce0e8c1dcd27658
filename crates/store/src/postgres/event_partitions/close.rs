//! Closes the open partition and opens the next one.

use super::super::connections::Lease;
use super::super::partition_steps::PartitionSteps;
use super::layout::{audit_table, end_seq, finish_table, first_seq, table};
use crate::StoreError;
use crate::partitions::{BATCH_BITS, OpenPartition, batches_before};

/// Closes the open partition and opens the next one. Returns whether it was done. If several replicas call this at
/// once, one of them does it.
pub(crate) async fn close(
    lease: &mut Lease,
    schema: &str,
    steps: &PartitionSteps,
    partition: i32,
    next: i32,
) -> Result<bool, StoreError> {
    // The next partition is created separately and then attached, which waits for nobody; only then are batches made to
    // wait. The audit trail has a partition for the same batches. If another replica has closed the partition since it was selected, the name of the new one is taken, and all
    // of this is rolled back. But the sequence is not moved back: then the partition is closed by its numbers.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         CREATE TABLE {table} (LIKE event_rows INCLUDING ALL); \
         {finish}; \
         ALTER TABLE event_rows ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({end}); \
         CREATE TABLE {audit} (LIKE audit_rows INCLUDING ALL); \
         ALTER TABLE audit_rows ATTACH PARTITION {audit} FOR VALUES FROM ({before}) TO ({after}); \
         LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; \
         UPDATE event_partitions SET closed_at = clock_timestamp(), last_batch = last_batch() WHERE number = {partition}; \
         INSERT INTO event_partitions (number, unique_before) \
         SELECT {next}, coalesce(sum(unique_processed), 0) FROM counters; \
         UPDATE event_layout SET version = gen_random_uuid(); \
         SELECT setval('batches', greatest(last_batch(), {before})); \
         COMMIT",
        lock = steps.lock(schema),
        table = table(next),
        finish = finish_table(&table(next)),
        first = first_seq(next),
        end = end_seq(next),
        audit = audit_table(next),
        before = batches_before(next),
        after = batches_before(next) + batches_before(1),
    );
    steps.attempt(lease, sql, "a new partition of events was opened").await
}

/// Returns the open partition. The counters tell how many events it has.
pub(crate) async fn open_partition(lease: &mut Lease) -> Result<Option<OpenPartition>, StoreError> {
    let select = sqlx::query_as(
        "SELECT p.number, (SELECT coalesce(sum(unique_processed), 0)::int8 FROM counters) - p.unique_before, \
                last_batch() - (p.number::int8 << $1), \
                (extract(epoch FROM clock_timestamp() - p.opened_at) * 1000000)::int8 \
         FROM event_partitions AS p WHERE p.closed_at IS NULL",
    );
    let open: Option<(i32, i64, i64, i64)> = lease.fetch_optional(select.bind(BATCH_BITS as i32)).await?;
    Ok(open.map(|(number, events, batches, age)| OpenPartition { number, events, batches, age }))
}
