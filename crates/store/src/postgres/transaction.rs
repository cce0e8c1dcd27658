//! The transaction that stores a batch: a handful of round trips, whatever the batch holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sluice_event::{EventKey, PayloadHash, ReceiptId};
use sluice_log::Position;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr};

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::insert::BatchTarget;
use super::insert_strategy::{self, InsertStrategies};
use super::{counters, insert, query, receipts};
use crate::{Counts, DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction as StoreTransaction};

/// Begins and records receipts, in one round trip. The lock comes before the statements that read the
/// epoch, so that they see one that cannot end before this transaction does ([`receipts`] says why).
/// Answers the number of the batch, which is the high bits of its events' `seq`, and the receipts that
/// are new. The savepoint that COPY needs ([`insert_strategy`]) stands at the end.
pub(super) async fn begin(lease: &mut Lease, ids: &[ReceiptId]) -> Result<(i64, HashSet<ReceiptId>), StoreError> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE; \
         SELECT nextval('event_batches')::text FROM receipt_epochs WHERE closed_at IS NULL; \
         {}; {}",
        receipts::execute(ids),
        insert_strategy::SAVEPOINT,
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
    let savepoint_set = within(lease.deadline(), mark.fetch_one(&mut **lease)).await.map_err(of_statement)?;
    Ok(savepoint_set.unsigned_abs())
}

/// The transaction. It owns its connection until it is committed; dropped before, the connection
/// is closed and the server rolls back.
pub(super) struct Transaction {
    lease: Lease,
    target: BatchTarget,
    generation: u64,
    strategies: Arc<InsertStrategies>,
    /// Nothing was written since the savepoint that COPY needs.
    savepoint_set: bool,
    /// Keys that were found stored, with the hashes of their payloads.
    found: HashMap<EventKey, PayloadHash>,
    /// A statement failed: the server refuses all but going back to the savepoint, and would
    /// answer COMMIT by a silent ROLLBACK.
    failed: bool,
}

impl Transaction {
    /// After [`begin`].
    pub fn new(lease: Lease, target: BatchTarget, generation: u64, strategies: Arc<InsertStrategies>) -> Self {
        Self { lease, target, generation, strategies, savepoint_set: true, found: HashMap::new(), failed: false }
    }

    /// What every statement ends with.
    fn track<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.savepoint_set = false;
        self.failed |= result.is_err();
        result
    }

    async fn run(&mut self, sql: impl SqlSafeStr + Send) -> Result<(), StoreError> {
        let ran = self.lease.run(sql).await;
        self.track(ran)
    }
}

#[async_trait]
impl StoreTransaction for Transaction {
    fn generation(&self) -> u64 {
        self.generation
    }

    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
        let rows = self.lease.rows(AssertSqlSafe(receipts::execute(ids))).await;
        self.track(rows.and_then(|rows| receipts::read(&rows)))
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let savepoint_set = self.savepoint_set;
        let inserted = insert_strategy::insert(
            &mut self.lease,
            &self.strategies,
            self.target,
            savepoint_set,
            rows,
            &mut self.found,
        )
        .await;
        self.track(inserted)
    }

    fn may_pause(&self) -> bool {
        self.strategies.alone()
    }

    /// A statement of its own: its snapshot sees what was committed by transactions that the
    /// insert waited for, which the insert's own snapshot does not.
    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        let others: Vec<_> = keys.iter().filter(|key| !self.found.contains_key(key)).copied().collect();
        if !others.is_empty() {
            let hashes = insert_strategy::stored(&mut self.lease, others).await;
            let hashes = self.track(hashes)?;
            self.found.extend(hashes);
        }
        Ok(std::mem::take(&mut self.found))
    }

    async fn insert_dead_letters(&mut self, letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        let inserted = insert::dead_letters(&mut self.lease, letters).await;
        self.track(inserted)
    }

    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let letter = query::take_dead_letter(&mut self.lease, id).await;
        self.track(letter)
    }

    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError> {
        let inserted = insert::audit(&mut self.lease, dropped).await;
        self.track(inserted)
    }

    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM attempts WHERE position = $1").bind(position.to_string());
        let deleted = within(self.lease.deadline(), delete.execute(&mut *self.lease)).await;
        self.track(deleted.map(|_| ()).map_err(of_statement))
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
