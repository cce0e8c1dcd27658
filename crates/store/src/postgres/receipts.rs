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
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sluice_event::ReceiptId;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::connections::Lease;
use super::errors::within;
use super::locks::lock_id;
use super::sqlstate::SqlState;
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

/// The shortest and, as a share of the claim time, the longest wait for the lock of a step. Batches queue behind the
/// wait, so it begins short. Transactions that always overlap would let a short wait fail for ever, so it doubles after
/// each failure; but it stays below the time for which a batch waits ([`super::session`]).
const MIN_LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_LOCK_SHARE: u32 = 5;

/// The closing and dropping of partitions by one process.
pub(super) struct Partitions {
    max_lock_timeout: Duration,
    /// How many steps in a row did not get their lock.
    failures: AtomicU32,
}

impl Partitions {
    pub fn new(claim_after: Duration) -> Self {
        Self { max_lock_timeout: claim_after / MAX_LOCK_SHARE, failures: AtomicU32::new(0) }
    }

    /// Closes the open partition if it is old enough, and drops the partitions that were closed longer than
    /// `ttl` ago, all by the database's clock. If several replicas call this at once, one of them does it.
    pub async fn maintain(&self, lease: &mut Lease, schema: &str, ttl: Duration) -> Result<(), StoreError> {
        if let Some(partition) = partition_to_close(lease, ttl).await? {
            self.close(lease, schema, partition).await?;
        }
        for partition in partitions_to_drop(lease, ttl).await? {
            if is_held_for_long(lease, partition).await? {
                tracing::debug!(
                    partition,
                    "the partition is dropped later: a dump, or another long transaction, reads it"
                );
                break;
            }
            self.drop(lease, schema, partition).await?;
        }
        Ok(())
    }

    async fn close(&self, lease: &mut Lease, schema: &str, partition: i32) -> Result<(), StoreError> {
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
            lock = self.lock(schema),
        );
        self.attempt(lease, sql, "a new partition of receipts was opened").await
    }

    async fn drop(&self, lease: &mut Lease, schema: &str, partition: i32) -> Result<(), StoreError> {
        // Batches queue behind the wait for this lock, so the wait is short.
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
         DROP TABLE receipts_{partition}; \
         DELETE FROM receipt_epochs WHERE epoch = {partition}; \
         COMMIT",
            lock = self.lock(schema),
        );
        self.attempt(lease, sql, "a partition of receipts was dropped").await
    }

    /// Returns statements that let one replica at a time go on, and limit the wait for a lock that batches
    /// queue behind.
    fn lock(&self, schema: &str) -> String {
        let failures = self.failures.load(Ordering::Relaxed).min(8);
        let timeout = (MIN_LOCK_TIMEOUT * 2_u32.pow(failures)).min(self.max_lock_timeout).as_millis().max(1);
        format!("SET LOCAL lock_timeout = {timeout}; SELECT pg_advisory_xact_lock({});", lock_id(schema, "maintain"))
    }

    /// Runs a step that another transaction may prevent; then it is left for the next call of [`Partitions::maintain`].
    async fn attempt(&self, lease: &mut Lease, sql: String, done: &'static str) -> Result<(), StoreError> {
        let deadline = lease.deadline();
        let error = match within(deadline, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **lease)).await {
            Ok(_) => {
                self.failures.store(0, Ordering::Relaxed);
                tracing::info!("{done}");
                return Ok(());
            }
            Err(error) => error,
        };
        let Some(state) = SqlState::of(&error) else {
            return lease.converted(Err(error));
        };
        lease.run("ROLLBACK").await?;
        match state {
            // The table exists already or does not exist any more: another replica has done the step in between. The lock
            // is not available: a batch, or a backup, holds the table for longer than this should wait.
            SqlState::DuplicateTable | SqlState::UndefinedTable | SqlState::LockNotAvailable => {
                if state == SqlState::LockNotAvailable {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                tracing::debug!(%error, "the partitions of receipts are left as they are for now");
                Ok(())
            }
            _ => lease.converted(Err(error)),
        }
    }
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

/// Returns whether a transaction that has been running for a while holds a lock on the partition, or on the whole table
/// as a dump does: then a drop would wait in vain, and batches behind it. Of the sessions of other roles it may be
/// unknown when their transactions began; they are no batches.
async fn is_held_for_long(lease: &mut Lease, partition: i32) -> Result<bool, StoreError> {
    let select = sqlx::query_as(
        "SELECT EXISTS ( \
             SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
             WHERE l.locktype = 'relation' \
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND l.relation IN ('receipts'::regclass, to_regclass($1)) \
               AND l.granted AND l.pid <> pg_backend_pid() \
               AND coalesce(a.xact_start < clock_timestamp() - interval '1 second', true))",
    );
    let (held,): (bool,) = lease.fetch_one(select.bind(format!("receipts_{partition}"))).await?;
    Ok(held)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
