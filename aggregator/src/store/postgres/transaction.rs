//! The transaction that stores a batch: a handful of round trips, whatever the batch holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sluice_log::Position;
use sqlx::Row as _;
use sqlx::postgres::PgBindIterExt;
use uuid::Uuid;

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::insert::Into;
use super::way::{self, Ways};
use super::{PayloadType, insert, query, receipts};
use crate::store::{
    Counts, DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction as StoreTransaction,
};

/// What a transaction learns as it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// The epoch that its receipts go to.
    pub epoch: i32,
    /// The number of its batch: the high bits of its events' `seq`.
    pub batch: i64,
}

/// Begins, in one round trip. The lock comes before the statement that reads the epoch, so that
/// it sees an epoch that cannot end before this transaction does ([`receipts`] says why).
pub(super) async fn begin(lease: &mut Lease) -> Result<Begun, StoreError> {
    let begin = sqlx::raw_sql(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE; \
         SELECT epoch::text, nextval('event_batches')::text FROM receipt_epochs WHERE closed_at IS NULL",
    );
    let row = within(lease.deadline(), begin.fetch_one(&mut **lease)).await.map_err(of_statement)?;
    // The simple protocol answers in text.
    let number = |column: usize| row.try_get::<&str, _>(column).ok()?.parse::<i64>().ok();
    let epoch = number(0).and_then(|epoch| i32::try_from(epoch).ok());
    match (epoch, number(1)) {
        (Some(epoch), Some(batch)) => Ok(Begun { epoch, batch }),
        _ => Err(StoreError::Failed("the receipts' epoch cannot be read".into())),
    }
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
    begun: Begun,
    epoch: u64,
    payload_type: PayloadType,
    ways: Arc<Ways>,
    /// Keys that were found stored, with the hashes of their payloads.
    found: HashMap<Uuid, Uuid>,
    /// A statement failed: the server refuses all but going back to the savepoint, and would
    /// answer COMMIT by a silent ROLLBACK.
    failed: bool,
}

impl Transaction {
    pub fn new(lease: Lease, begun: Begun, epoch: u64, payload_type: PayloadType, ways: Arc<Ways>) -> Self {
        Self { lease, begun, epoch, payload_type, ways, found: HashMap::new(), failed: false }
    }

    fn seen<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.failed |= result.is_err();
        result
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
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
        let new = receipts::insert(&mut self.lease, self.begun.epoch, ids).await;
        self.seen(new)
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let into = Into { payload_type: self.payload_type, batch: self.begun.batch };
        let inserted = way::insert(&mut self.lease, &self.ways, into, rows, &mut self.found).await;
        self.seen(inserted)
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

    /// In the order of the topics, which is that of the map, so that two transactions never wait
    /// for each other in a circle, even if they shared a shard.
    async fn add_counts(&mut self, shard: &str, counts: &BTreeMap<&str, Counts>) -> Result<(), StoreError> {
        let column = |pick: fn(&Counts) -> u64| counts.values().map(move |c| pick(c) as i64).bind_iter();
        let upsert = sqlx::query(
            "INSERT INTO counters AS c (topic, shard, received, unique_processed, duplicate_dropped, conflicts) \
             SELECT topic, $2, received, uniques, duplicates, conflicts \
             FROM unnest($1::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[]) \
                  AS n (topic, received, uniques, duplicates, conflicts) \
             ON CONFLICT (topic, shard) DO UPDATE SET \
                 received = c.received + excluded.received, \
                 unique_processed = c.unique_processed + excluded.unique_processed, \
                 duplicate_dropped = c.duplicate_dropped + excluded.duplicate_dropped, \
                 conflicts = c.conflicts + excluded.conflicts",
        );
        let upsert = upsert
            .bind(counts.keys().copied().bind_iter())
            .bind(shard)
            .bind(column(|c| c.received))
            .bind(column(|c| c.unique))
            .bind(column(|c| c.duplicates))
            .bind(column(|c| c.conflicts));
        let added = within(self.lease.deadline(), upsert.execute(&mut *self.lease)).await;
        self.seen(added.map(|_| ()).map_err(of_statement))
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

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        self.run("COMMIT").await?;
        self.lease.give_back();
        Ok(())
    }
}
