//! The transaction that stores a batch. There is one at a time, so there are no races here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use sluice_event::{EventKey, PayloadHash, ReceiptId, Timestamp};
use sluice_log::Position;
use sluice_meter::Set;
use sqlx::SqliteConnection;
use tokio::sync::OwnedMutexGuard;

use super::bulk::Bulk;
use super::errors::of_statement;
use super::insert;
use super::key_partitions::KeySearch;
use super::writer::Writer;
use super::{conflicts, ledger, meters, outcomes, query, series, tombstones};
use crate::conflicts::NewConflict;
use crate::ledger::LedgerRow;
use crate::marks::Number;
use crate::outcomes::RequestOutcome;
use crate::put_aside;
use crate::series::BatchCounts;
use crate::{Counts, DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction as StoreTransaction};

static INSERT_RECEIPTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new("INSERT INTO receipts (id, committed_at) VALUES", "(?,?)", "ON CONFLICT DO NOTHING RETURNING id")
});
static RENEW_RECEIPTS: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("UPDATE receipts SET committed_at = max(committed_at, ?) WHERE id IN (", "?", ")"));
static ADD_COUNTS: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO counters (topic, shard, received, unique_processed, duplicate_dropped, conflicts) VALUES",
        "(?,?,?,?,?,?)",
        "ON CONFLICT (topic, shard) DO UPDATE SET \
             received = received + excluded.received, \
             unique_processed = unique_processed + excluded.unique_processed, \
             duplicate_dropped = duplicate_dropped + excluded.duplicate_dropped, \
             conflicts = conflicts + excluded.conflicts",
    )
});
static INSERT_AUDIT: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("INSERT INTO audit (key, request_id, conflict, at) VALUES", "(?,?,?,?)", ""));

/// Marks an attempt to store an entry and returns how many were marked. Not part of the batch's
/// transaction, because an entry that kills the process would prevent its commit.
pub(super) async fn mark_attempt(connection: &mut SqliteConnection, position: Position) -> Result<u32, StoreError> {
    let mark = sqlx::query_scalar::<_, i64>(
        "INSERT INTO attempts (position, attempts, at) VALUES (?1, 1, ?2) \
         ON CONFLICT (position) DO UPDATE SET attempts = attempts + 1, at = ?2 RETURNING attempts",
    );
    let mark = mark.bind(position.to_string()).bind(Timestamp::now().as_micros());
    let marked = mark.fetch_one(connection).await.map_err(of_statement)?;
    Ok(u32::try_from(marked).unwrap_or(u32::MAX))
}

/// Takes a mark back.
pub(super) async fn unmark_attempt(connection: &mut SqliteConnection, position: Position) -> Result<(), StoreError> {
    let unmark = sqlx::query("UPDATE attempts SET attempts = max(attempts - 1, 0) WHERE position = ?");
    unmark.bind(position.to_string()).execute(connection).await.map(|_| ()).map_err(of_statement)
}

/// The transaction. If it is dropped before it is committed, it is rolled back.
pub(super) struct Transaction {
    writer: OwnedMutexGuard<Writer>,
    /// The last `seq` used before it.
    last_seq: i64,
    keys: KeySearch,
    generation: u64,
    meters: Arc<Set>,
    failed: bool,
}

impl Transaction {
    pub fn new(
        writer: OwnedMutexGuard<Writer>,
        last_seq: i64,
        keys: KeySearch,
        generation: u64,
        meters: Arc<Set>,
    ) -> Self {
        Self { writer, last_seq, keys, generation, meters, failed: false }
    }

    /// Tracks the result of a statement.
    fn track<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.failed |= result.is_err();
        result
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let ran = self.writer.run(sql).await;
        self.track(ran)
    }
}

impl Drop for Transaction {
    /// The next transaction would roll this one back, but until then it would lock the file.
    fn drop(&mut self) {
        if self.writer.is_in_transaction()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let writer = Arc::clone(OwnedMutexGuard::mutex(&self.writer));
            runtime.spawn(async move { writer.lock_owned().await.connection().await.map(|_| ()) });
        }
    }
}

#[async_trait]
impl StoreTransaction for Transaction {
    fn generation(&self) -> u64 {
        self.generation
    }

    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
        let new = insert_receipts(self.writer.current().await?, ids).await;
        self.track(new)
    }

    fn may_pause(&self) -> bool {
        false // There are no concurrent transactions to wait for.
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let last_seq = self.last_seq;
        let inserted = insert::insert_events(self.writer.current().await?, &mut self.keys, last_seq, rows).await;
        self.track(inserted)
    }

    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        let connection = self.writer.current().await?;
        let hashes = match self.keys.open() {
            Some(_) => self.keys.hashes(connection, keys).await,
            None => insert::hashes_by_index(connection, keys).await,
        };
        self.track(hashes)
    }

    async fn insert_dead_letters(&mut self, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        let inserted = insert_dead_letters(self.writer.current().await?, dead_letters).await;
        self.track(inserted)
    }

    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let letter = query::take_dead_letter(self.writer.current().await?, id).await;
        self.track(letter)
    }

    async fn add_to_ledger(&mut self, shard: &str, rows: &[LedgerRow<'_>]) -> Result<(), StoreError> {
        let added = ledger::add_to_ledger(self.writer.current().await?, shard, rows).await;
        self.track(added)
    }

    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError> {
        let inserted = insert_audit(self.writer.current().await?, dropped).await;
        self.track(inserted)
    }

    async fn insert_conflicts(&mut self, conflicts: &[NewConflict<'_>]) -> Result<(), StoreError> {
        let inserted = conflicts::insert(self.writer.current().await?, conflicts).await;
        self.track(inserted)
    }

    async fn insert_outcomes(&mut self, outcomes: &[RequestOutcome]) -> Result<(), StoreError> {
        let inserted = outcomes::insert(self.writer.current().await?, outcomes).await;
        self.track(inserted)
    }

    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM attempts WHERE position = ?").bind(position.to_string());
        let deleted = delete.execute(self.writer.current().await?).await;
        self.track(deleted.map(|_| ()).map_err(of_statement))
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT here").await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK TO here; RELEASE here").await?;
        self.failed = false;
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("RELEASE here").await
    }

    fn meters(&self) -> Arc<Set> {
        Arc::clone(&self.meters)
    }

    async fn add_to_meters(&mut self, rows: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let added = meters::insert_rows(self.writer.current().await?, rows).await;
        self.track(added)
    }

    /// Commits are not numbered: the log is on the same disk, and there is no second server.
    async fn commit(
        mut self: Box<Self>,
        shard: &str,
        counts: &BatchCounts<'_>,
        _number: Option<Number<'_>>,
    ) -> Result<Option<u64>, StoreError> {
        if self.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        let last_seq = self.last_seq;
        let connection = self.writer.current().await?;
        tombstones::erase_again(connection, last_seq).await?;
        add_counts(connection, shard, &counts.by_topic()).await?;
        series::add(connection, counts).await?;
        self.keys.count(connection, counts.total().unique).await?;
        self.writer.commit().await.map(|()| None)
    }
}

async fn insert_receipts(
    connection: &mut SqliteConnection,
    ids: &[ReceiptId],
) -> Result<HashSet<ReceiptId>, StoreError> {
    let now = Timestamp::now().as_micros();
    let mut new = HashSet::with_capacity(ids.len());
    for (text, ids) in INSERT_RECEIPTS.statements(ids) {
        let insert = ids.iter().fold(sqlx::query_scalar::<_, ReceiptId>(text), |insert, id| insert.bind(*id).bind(now));
        new.extend(insert.fetch_all(&mut *connection).await.map_err(of_statement)?);
    }
    if new.len() < ids.len() {
        let stored: Vec<_> = ids.iter().filter(|id| !new.contains(id)).copied().collect();
        renew_receipts(connection, &stored, now).await?;
    }
    Ok(new)
}

/// Retains receipts that were stored before for as long as new ones: the log, too, remembers an
/// `Idempotency-Key` from its last use on.
async fn renew_receipts(connection: &mut SqliteConnection, ids: &[ReceiptId], now: i64) -> Result<(), StoreError> {
    for (text, ids) in RENEW_RECEIPTS.statements(ids) {
        let renew = ids.iter().fold(sqlx::query(text).bind(now), |renew, id| renew.bind(*id));
        renew.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

async fn add_counts(
    connection: &mut SqliteConnection,
    shard: &str,
    counts: &BTreeMap<&str, Counts>,
) -> Result<(), StoreError> {
    let counts: Vec<_> = counts.iter().collect();
    for (text, counts) in ADD_COUNTS.statements(&counts) {
        let upsert = counts.iter().fold(sqlx::query(text), |upsert, (topic, counts)| {
            upsert
                .bind(**topic)
                .bind(shard)
                .bind(counts.received.cast_signed())
                .bind(counts.unique.cast_signed())
                .bind(counts.duplicates.cast_signed())
                .bind(counts.conflicts.cast_signed())
        });
        upsert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

async fn insert_dead_letters(
    connection: &mut SqliteConnection,
    dead_letters: &[NewDeadLetter],
) -> Result<(), StoreError> {
    let now = Timestamp::now().as_micros();
    for dead_letter in dead_letters {
        let (topic, event_id) = dead_letter.event.clone().unzip();
        let insert = sqlx::query(
            "INSERT INTO dead_letters \
                 (failed_at, stream, millis, sequence, topic, event_id, events, code, reason, body, receipts) \
             VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        );
        let insert = insert
            .bind(now)
            .bind(dead_letter.position.stream)
            .bind(dead_letter.position.millis.cast_signed())
            .bind(dead_letter.position.sequence.cast_signed())
            .bind(topic)
            .bind(event_id)
            .bind(dead_letter.events.cast_signed())
            .bind(&*dead_letter.code)
            .bind(&*dead_letter.reason)
            .bind(&*dead_letter.body)
            .bind(dead_letter.receipts.as_deref().map(put_aside::to_bytes));
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

async fn insert_audit(connection: &mut SqliteConnection, dropped: &[Dropped]) -> Result<(), StoreError> {
    let now = Timestamp::now().as_micros();
    for (text, dropped) in INSERT_AUDIT.statements(dropped) {
        let insert = dropped.iter().fold(sqlx::query(text), |insert, dropped| {
            insert.bind(dropped.key).bind(dropped.request_id).bind(dropped.conflict).bind(now)
        });
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}
