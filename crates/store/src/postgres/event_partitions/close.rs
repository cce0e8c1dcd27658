//! Closes the open partition, once it is large or old enough, and opens the next one.

use std::time::Duration;

use super::super::connections::Lease;
use super::super::partition_steps::PartitionSteps;
use super::layout::{BATCH_BITS, batches_before, end_seq, finish_table, first_seq, table};
use crate::StoreError;
use crate::retention_clock::micros;

/// Partitions into which the time is divided for which events are retained: more of them free the disk sooner.
const PARTITIONS: u32 = 8;
/// The number of batches with which a partition is closed: three quarters of what it has numbers for.
const MAX_BATCHES: i64 = 3 << (BATCH_BITS - 2);

/// When the open partition is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of events with which it is closed.
    pub rows: u64,
    /// How long events are retained: a partition spans at most an eighth of that.
    pub retention: Option<Duration>,
}

/// Closes the open partition if it has reached a limit. Returns whether it was closed. If several replicas call this at
/// once, one of them does it.
pub(crate) async fn close_if_due(
    lease: &mut Lease,
    schema: &str,
    steps: &PartitionSteps,
    limits: Limits,
) -> Result<bool, StoreError> {
    let Some(partition) = due(lease, limits).await? else { return Ok(false) };
    let Some(next) = partition.checked_add(1).filter(|next| batches_before(*next) >> BATCH_BITS == i64::from(*next))
    else {
        return Err(StoreError::Failed("the numbers of the partitions of events are used up".into()));
    };
    // The next partition is created separately and then attached, which waits for nobody; only then are batches made to
    // wait. If another replica has closed the partition since it was selected, the name of the new one is taken, and all
    // of this is rolled back. But the sequence is not moved back: then the partition is closed by its numbers.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         CREATE TABLE {table} (LIKE event_rows INCLUDING ALL); \
         {finish}; \
         ALTER TABLE event_rows ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({end}); \
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
        before = batches_before(next),
    );
    steps.attempt(lease, sql, "a new partition of events was opened").await
}

/// Returns the open partition if it has reached a limit. The counters tell how many events it has. One that has none is
/// not closed by its age: an idle system needs no new partitions.
async fn due(lease: &mut Lease, Limits { rows, retention }: Limits) -> Result<Option<i32>, StoreError> {
    let select = sqlx::query_as(
        "SELECT p.number FROM event_partitions AS p, \
             (SELECT coalesce(sum(unique_processed), 0)::int8 AS rows FROM counters) AS stored \
         WHERE p.closed_at IS NULL \
           AND (stored.rows - p.unique_before >= $1 \
             OR last_batch() - (p.number::int8 << $2) >= $3 \
             OR stored.rows > p.unique_before \
                AND p.opened_at <= clock_timestamp() - $4 * interval '1 microsecond')",
    );
    let rows = i64::try_from(rows.max(1)).unwrap_or(i64::MAX);
    let select = select.bind(rows).bind(BATCH_BITS as i32).bind(MAX_BATCHES);
    let partition: Option<(i32,)> =
        lease.fetch_optional(select.bind(retention.map(|retention| micros(retention / PARTITIONS)))).await?;
    Ok(partition.map(|(partition,)| partition))
}
