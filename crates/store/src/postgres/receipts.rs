//! Receipts: unique for ever across a table that is dropped piece by piece.
//!
//! Deleting rows one by one would cost as much as inserting them, so receipts lie in partitions,
//! by **epoch**, and whole partitions are dropped. A unique index cannot span partitions (it must
//! hold the epoch too), so uniqueness across epochs is kept by locks:
//!
//! - A batch's transaction takes the table's lock in ROW EXCLUSIVE mode first, and reads the
//!   current epoch in a statement after it. Such locks do not exclude each other.
//! - Whoever ends an epoch takes SHARE ROW EXCLUSIVE, which waits until all those transactions
//!   have ended and keeps new ones waiting; then it makes the next epoch the current one.
//!
//! So while a transaction runs its epoch is the current one, and every transaction that wrote to
//! an older epoch has ended: what it wrote is visible to any statement from now on. Within the
//! epoch the primary key decides (`ON CONFLICT` waits for a transaction that inserts the same id);
//! across epochs a look into the older ones does, and it cannot race anything. That is why both
//! may stand in one statement here, where elsewhere a statement must not classify rows by what
//! another transaction is about to commit.

use std::collections::HashSet;
use std::time::Duration;

use sluice_event::ReceiptId;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::locks::lock_id;
use crate::StoreError;

/// How many epochs the time for which receipts are kept is divided target. Every one is a partition
/// that each batch looks target.
const EPOCHS: u32 = 8;

/// Records receipts in the current epoch; answers those that are in no epoch yet. One that is in an
/// older epoch is recorded again: it was seen again. The inner query is one look into each older
/// partition's index per id, whatever the statistics say.
pub(super) const PREPARE: &str = "PREPARE new_receipts (uuid[]) AS \
     WITH new AS ( \
         INSERT INTO receipts (epoch, id) \
         SELECT (SELECT epoch FROM receipt_epochs WHERE closed_at IS NULL), id FROM unnest($1) AS n (id) \
         ON CONFLICT DO NOTHING RETURNING epoch, id) \
     SELECT id::text FROM new \
     WHERE (SELECT true FROM receipts AS r WHERE r.id = new.id AND r.epoch < new.epoch LIMIT 1) IS NULL";

/// What records them, and its rows read.
pub(super) fn execute(ids: &[ReceiptId]) -> String {
    let ids: Vec<_> = ids.iter().map(ReceiptId::to_string).collect();
    format!("EXECUTE new_receipts ('{{{}}}')", ids.join(","))
}

/// Reads the rows that [`execute`] answers.
pub(super) fn read(rows: &[PgRow]) -> Result<HashSet<ReceiptId>, StoreError> {
    let id = |row: &PgRow| row.try_get::<&str, _>(0).ok().and_then(ReceiptId::parse);
    let ids = rows.iter().map(|row| id(row).ok_or_else(|| StoreError::Failed("a receipt cannot be read".into())));
    ids.collect()
}

/// Ends the epoch when it is old enough, and drops the epochs that ended longer than `keep` ago, all
/// by the database's clock. Of several replicas that call this at once, one does it.
pub(super) async fn maintain(lease: &mut Lease, schema: &str, keep: Duration) -> Result<(), StoreError> {
    if let Some(epoch) = epoch_to_end(lease, keep).await? {
        end_epoch(lease, schema, epoch).await?;
    }
    for epoch in epochs_to_drop(lease, keep).await? {
        drop_epoch(lease, schema, epoch).await?;
    }
    Ok(())
}

/// The current epoch, if it is old and has receipts: an idle system needs no new ones.
async fn epoch_to_end(lease: &mut Lease, keep: Duration) -> Result<Option<i32>, StoreError> {
    let select = sqlx::query_scalar(
        "SELECT epoch FROM receipt_epochs AS e \
         WHERE closed_at IS NULL AND opened_at <= clock_timestamp() - $1 * interval '1 microsecond' \
           AND EXISTS (SELECT FROM receipts AS r WHERE r.epoch = e.epoch)",
    );
    let select = select.bind(micros(keep / EPOCHS));
    within(lease.deadline(), select.fetch_optional(&mut **lease)).await.map_err(of_statement)
}

async fn epochs_to_drop(lease: &mut Lease, keep: Duration) -> Result<Vec<i32>, StoreError> {
    let select = sqlx::query_scalar(
        "SELECT epoch FROM receipt_epochs \
         WHERE closed_at < clock_timestamp() - $1 * interval '1 microsecond' ORDER BY epoch",
    );
    let select = select.bind(micros(keep));
    within(lease.deadline(), select.fetch_all(&mut **lease)).await.map_err(of_statement)
}

async fn end_epoch(lease: &mut Lease, schema: &str, epoch: i32) -> Result<(), StoreError> {
    let Some(next) = epoch.checked_add(1) else {
        return Err(StoreError::Failed("the receipts' epochs are used up".into()));
    };
    // The partition is made apart and attached, which does not wait for anybody; only then is the
    // table locked, for as long as two rows take. The moment of the end is read after the lock:
    // no receipt of the epoch was committed later. Should another replica have ended the epoch
    // since we looked, the new partition's name is taken, and all of this is rolled back.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         CREATE TABLE receipts_{next} (LIKE receipts INCLUDING ALL); \
         ALTER TABLE receipts ATTACH PARTITION receipts_{next} FOR VALUES IN ({next}); \
         LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; \
         UPDATE receipt_epochs SET closed_at = clock_timestamp() WHERE epoch = {epoch}; \
         INSERT INTO receipt_epochs (epoch, opened_at) VALUES ({next}, clock_timestamp()); \
         COMMIT",
        lock = lock(schema),
    );
    attempt(lease, sql, "a new epoch of receipts has begun").await
}

async fn drop_epoch(lease: &mut Lease, schema: &str, epoch: i32) -> Result<(), StoreError> {
    // Batches are kept waiting behind the wait for this lock, so it is short.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         DROP TABLE receipts_{epoch}; \
         DELETE FROM receipt_epochs WHERE epoch = {epoch}; \
         COMMIT",
        lock = lock(schema),
    );
    attempt(lease, sql, "an epoch of receipts was dropped").await
}

/// One replica at a time, and no long wait for a lock that batches queue behind.
fn lock(schema: &str) -> String {
    format!("SET LOCAL lock_timeout = '1s'; SELECT pg_advisory_xact_lock({});", lock_id(schema, "maintain"))
}

/// Runs a step that others may be in the way of: then it is for the next time.
async fn attempt(lease: &mut Lease, sql: String, done: &'static str) -> Result<(), StoreError> {
    let deadline = lease.deadline();
    let error = match within(deadline, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **lease)).await {
        Ok(_) => {
            tracing::info!("{done}");
            return Ok(());
        }
        Err(error) => error,
    };
    if error.as_database_error().is_none() {
        return Err(of_statement(error));
    }
    lease.run("ROLLBACK").await?;
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
    match &*code {
        // Duplicate table, undefined table: another replica has done it in between. Lock not
        // available: a batch, or a backup, holds the table for longer than we want to wait.
        "42P07" | "42P01" | "55P03" => {
            tracing::debug!(code, "the receipts' epochs are left as they are for now");
            Ok(())
        }
        _ => Err(of_statement(error)),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
