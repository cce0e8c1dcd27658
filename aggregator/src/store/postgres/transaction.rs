//! The transaction that stores a batch: a handful of round trips, whatever the batch holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sluice_log::Position;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr};
use uuid::Uuid;

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::insert::Into;
use super::way::{self, Ways};
use super::{counters, insert, query, receipts};
use crate::store::{
    Counts, DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction as StoreTransaction,
};

/// Begins and records receipts, in one round trip. The lock comes before the statements that read the
/// epoch, so that they see one that cannot end before this transaction does ([`receipts`] says why).
/// Answers the number of the batch, which is the high bits of its events' `seq`, and the receipts that
/// are new. The savepoint that COPY needs ([`way`]) stands at the end.
pub(super) async fn begin(lease: &mut Lease, ids: &[Uuid]) -> Result<(i64, HashSet<Uuid>), StoreError> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE; \
         SELECT nextval('event_batches')::text FROM receipt_epochs WHERE closed_at IS NULL; \
         {}; {}",
        receipts::execute(ids),
        way::SAVEPOINT,
    );
    let rows = lease.rows(AssertSqlSafe(begin)).await?;
    let no_epoch = || StoreError::Failed("the receipts' epoch cannot be read".into());
    let (batch, new) = rows.split_first().ok_or_else(no_epoch)?;
    // No epoch would have answered one row less: a receipt, which is no number.
    let batch = batch.try_get::<&str, _>(0).ok().and_then(|batch| batch.parse().ok()).ok_or_else(no_epoch)?;
    Ok((batch, receipts::read(new)?))
}

/// Marks an attempt, outside of any batch's transaction, which its reader may not live to commit.
pub(super) async fn mark_attempt(lease: &mut Lease, position: Position) -> Result<u32, StoreError> {
    let mark = sqlx::query_scalar::<_, i32>(
        "INSERT INTO attempts AS a (position, attempts) VALUES ($1, 1) \
         ON CONFLICT (position) DO UPDATE SET attempts = a.attempts + 1, at = now() RETURNING attempts",
    );
    let mark = mark.bind(position.to_string());
    let marked = within(lease.deadline(), mark.fetch_one(&mut **lease)).await.map_err(of_statement)?;
    Ok(marked.unsigned_abs())
}

/// The transaction. It owns its connection until it is committed; dropped before, the connection
/// is closed and the server rolls back.
pub(super) struct Transaction {
    lease: Lease,
    into: Into,
    epoch: u64,
    ways: Arc<Ways>,
    /// Nothing was written since the savepoint that COPY needs.
    marked: bool,
    /// Keys that were found stored, with the hashes of their payloads.
    found: HashMap<Uuid, Uuid>,
    /// A statement failed: the server refuses all but going back to the savepoint, and would
    /// answer COMMIT by a silent ROLLBACK.
    failed: bool,
}

impl Transaction {
    /// After [`begin`].
    pub fn new(lease: Lease, into: Into, epoch: u64, ways: Arc<Ways>) -> Self {
        Self { lease, into, epoch, ways, marked: true, found: HashMap::new(), failed: false }
    }

    /// What every statement ends with.
    fn seen<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.marked = false;
        self.failed |= result.is_err();
        result
    }

    async fn run(&mut self, sql: impl SqlSafeStr + Send) -> Result<(), StoreError> {
        let ran = self.lease.run(sql).await;
        self.seen(ran)
    }
}

#[async_trait]
impl StoreTransaction for Transaction {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn insert_receipts(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let rows = self.lease.rows(AssertSqlSafe(receipts::execute(ids))).await;
        self.seen(rows.and_then(|rows| receipts::read(&rows)))
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let marked = self.marked;
        let inserted = way::insert(&mut self.lease, &self.ways, self.into, marked, rows, &mut self.found).await;
        self.seen(inserted)
    }

    fn may_pause(&self) -> bool {
        self.ways.alone()
    }

    /// A statement of its own: its snapshot sees what was committed by transactions that the
    /// insert waited for, which the insert's own snapshot does not.
    async fn payload_hashes(&mut self, keys: &[Uuid]) -> Result<HashMap<Uuid, Uuid>, StoreError> {
        let others: Vec<_> = keys.iter().filter(|key| !self.found.contains_key(key)).copied().collect();
        if !others.is_empty() {
            let hashes = way::stored(&mut self.lease, others).await;
            let hashes = self.seen(hashes)?;
            self.found.extend(hashes);
        }
        Ok(std::mem::take(&mut self.found))
    }

    async fn insert_dead_letters(&mut self, letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        let inserted = insert::dead_letters(&mut self.lease, letters).await;
        self.seen(inserted)
    }

    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let letter = query::take_dead_letter(&mut self.lease, id).await;
        self.seen(letter)
    }

    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError> {
        let inserted = insert::audit(&mut self.lease, dropped).await;
        self.seen(inserted)
    }

    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM attempts WHERE position = $1").bind(position.to_string());
        let deleted = within(self.lease.deadline(), delete.execute(&mut *self.lease)).await;
        self.seen(deleted.map(|_| ()).map_err(of_statement))
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT here").await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK TO SAVEPOINT here; RELEASE SAVEPOINT here").await?;
        self.failed = false;
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("RELEASE SAVEPOINT here").await
    }

    async fn commit(mut self: Box<Self>, shard: &str, counts: &BTreeMap<&str, Counts>) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        if counts.is_empty() {
            self.run("COMMIT").await?;
        } else {
            self.run(AssertSqlSafe(format!("{}; COMMIT", counters::execute(shard, counts)))).await?;
        }
        self.lease.give_back();
        Ok(())
    }
}
