//! Receipts: unique in a table whose old parts are dropped one by one.
//!
//! Deleting rows one by one would cost as much as inserting them, so receipts are stored in partitions, by
//! the time of their insertion, and whole partitions are dropped. (The tables number the partitions in a
//! column `epoch`.) A unique index cannot span partitions without their number in it, so uniqueness across
//! partitions is ensured by locks:
//!
//! - The transaction of a batch first locks the table in ROW EXCLUSIVE mode, and reads the number of the open
//!   partition in a later statement. Such locks do not exclude each other.
//! - Whoever closes a partition locks the table in SHARE ROW EXCLUSIVE mode, which waits until all those
//!   transactions have ended and makes new ones wait; then the next partition becomes the open one.
//!
//! So the open partition stays open while a transaction runs, and every transaction that wrote to an older
//! partition has ended: what it wrote is visible to any later statement. Within the open partition the
//! primary key decides (`ON CONFLICT` waits for a transaction that inserts the same id). In older partitions
//! a query decides, and no transaction can change its result. That is why one statement may do both here,
//! although elsewhere a statement must not decide by what another transaction is about to commit.

use std::collections::HashSet;
use std::time::Duration;

use sluice_event::ReceiptId;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::connections::Lease;
use super::partition_steps::{PartitionSteps, is_held_for_long};
use crate::StoreError;

/// Partitions into which the time is divided for which receipts are retained. More of them free the disk
/// sooner, and every batch queries each of them.
const PARTITIONS: u32 = 8;

/// Prepares the statement that inserts receipts into the open partition and returns those that are in no
/// partition yet. One that is in an older partition is inserted too, so that it is retained from now on for
/// as long as a new one. The inner query makes one look-up per id in each older partition's index, whatever
/// the statistics of the planner.
pub(super) const PREPARE: &str = "PREPARE new_receipts (uuid[]) AS \
     WITH new AS ( \
         INSERT INTO receipts (epoch, id) \
         SELECT (SELECT epoch FROM receipt_epochs WHERE closed_at IS NULL), id FROM unnest($1) AS n (id) \
         ON CONFLICT DO NOTHING RETURNING epoch, id) \
     SELECT id::text FROM new \
     WHERE (SELECT true FROM receipts AS r WHERE r.id = new.id AND r.epoch < new.epoch LIMIT 1) IS NULL";

/// Returns the statement that inserts these receipts; [`read`] reads its rows.
pub(super) fn execute(ids: &[ReceiptId]) -> String {
    let ids: Vec<_> = ids.iter().map(ReceiptId::to_string).collect();
    format!("EXECUTE new_receipts ('{{{}}}')", ids.join(","))
}

/// Reads the rows that [`execute`] returns: the receipts that are new.
pub(super) fn read(rows: &[PgRow]) -> Result<HashSet<ReceiptId>, StoreError> {
    let id = |row: &PgRow| row.try_get::<&str, _>(0).ok().and_then(ReceiptId::parse);
    let ids = rows.iter().map(|row| id(row).ok_or_else(|| StoreError::Failed("a receipt cannot be read".into())));
    ids.collect()
}

/// Closes the open partition if it is old enough, and drops the partitions that were closed longer than
/// `ttl` ago, all by the database's clock. If several replicas call this at once, one of them does it.
pub(super) async fn maintain(
    lease: &mut Lease,
    schema: &str,
    steps: &PartitionSteps,
    ttl: Duration,
) -> Result<(), StoreError> {
    if let Some(partition) = partition_to_close(lease, ttl).await? {
        close(lease, schema, steps, partition).await?;
    }
    for partition in partitions_to_drop(lease, ttl).await? {
        if is_held_for_long(lease, &["receipts", &format!("receipts_{partition}")]).await? {
            tracing::debug!(partition, "the partition is dropped later: a dump, or another long transaction, reads it");
            break;
        }
        drop(lease, schema, steps, partition).await?;
    }
    Ok(())
}

async fn close(lease: &mut Lease, schema: &str, steps: &PartitionSteps, partition: i32) -> Result<(), StoreError> {
    let Some(next) = partition.checked_add(1) else {
        return Err(StoreError::Failed("the numbers of the receipts' partitions are used up".into()));
    };
    // The next partition is created separately and then attached, which waits for nobody; only then is the
    // table locked, for as long as changing two rows takes. `closed_at` is read after the lock: no receipt
    // of the partition was committed later. If another replica has closed the partition since it was
    // selected, the name of the new one is taken, and all of this is rolled back.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         CREATE TABLE receipts_{next} (LIKE receipts INCLUDING ALL); \
         ALTER TABLE receipts ATTACH PARTITION receipts_{next} FOR VALUES IN ({next}); \
         LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; \
         UPDATE receipt_epochs SET closed_at = clock_timestamp() WHERE epoch = {partition}; \
         INSERT INTO receipt_epochs (epoch, opened_at) VALUES ({next}, clock_timestamp()); \
         COMMIT",
        lock = steps.lock(schema),
    );
    steps.attempt(lease, sql, "a new partition of receipts was opened").await.map(|_| ())
}

async fn drop(lease: &mut Lease, schema: &str, steps: &PartitionSteps, partition: i32) -> Result<(), StoreError> {
    // Batches queue behind the wait for this lock, so the wait is short.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         DROP TABLE receipts_{partition}; \
         DELETE FROM receipt_epochs WHERE epoch = {partition}; \
         COMMIT",
        lock = steps.lock(schema),
    );
    steps.attempt(lease, sql, "a partition of receipts was dropped").await.map(|_| ())
}

/// Returns the disk space of all receipts, in bytes.
pub(super) async fn size(lease: &mut Lease) -> Result<u64, StoreError> {
    let select = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits \
         WHERE inhparent = 'receipts'::regclass";
    let (bytes,): (i64,) = lease.fetch_one(sqlx::query_as(select)).await?;
    Ok(bytes.unsigned_abs())
}

/// Returns the open partition, if it is old and has receipts: an idle system needs no new partitions.
async fn partition_to_close(lease: &mut Lease, ttl: Duration) -> Result<Option<i32>, StoreError> {
    let select = sqlx::query_as(
        "SELECT epoch FROM receipt_epochs AS e \
         WHERE closed_at IS NULL AND opened_at <= clock_timestamp() - $1 * interval '1 microsecond' \
           AND EXISTS (SELECT FROM receipts AS r WHERE r.epoch = e.epoch)",
    );
    let partition: Option<(i32,)> = lease.fetch_optional(select.bind(micros(ttl / PARTITIONS))).await?;
    Ok(partition.map(|(partition,)| partition))
}

async fn partitions_to_drop(lease: &mut Lease, ttl: Duration) -> Result<Vec<i32>, StoreError> {
    let select = sqlx::query_as(
        "SELECT epoch FROM receipt_epochs \
         WHERE closed_at < clock_timestamp() - $1 * interval '1 microsecond' ORDER BY epoch",
    );
    let partitions: Vec<(i32,)> = lease.fetch_all(select.bind(micros(ttl))).await?;
    Ok(partitions.into_iter().map(|(partition,)| partition).collect())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
