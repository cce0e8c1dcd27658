//! Deletes rows that are older than the retention time, in small steps, so that batches are stored in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_event::Timestamp;
use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use super::arrival_marks::{self, Mark};
use super::errors::of_statement;
use super::ledger;
use super::meters;
use super::outcomes;
use super::writer::{self, Writer, end};
use crate::ledger::{LedgerKind, LedgerRow};
use crate::retention_clock::RetentionClock;
use crate::{Maintenance, Removed, StoreError};

/// Rows deleted in one transaction.
const CHUNK: i64 = 5_000;

/// What is shared by the calls of [`maintain`].
pub(super) struct Retention {
    writer: Arc<Mutex<Writer>>,
    clock: RetentionClock,
    /// How many times rows were removed. It changes only while the writer is locked, so that every transaction that
    /// begins later knows.
    removals: AtomicU64,
}

impl Retention {
    pub fn new(writer: Arc<Mutex<Writer>>) -> Self {
        Self { writer, clock: RetentionClock::default(), removals: AtomicU64::new(0) }
    }

    /// Returns how many times rows were removed.
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    /// Deletes old events, receipts, marks of attempts and audit rows: by turns, so that none of them has to wait
    /// for the others to be finished.
    pub async fn maintain(&self, maintenance: &Maintenance) -> Result<Removed, StoreError> {
        let until = Instant::now() + maintenance.max_duration;
        let expired = before(maintenance.receipts_ttl)?;
        forget_attempts(&self.writer, expired).await?;
        let mark = self.update_marks(maintenance.retention).await?;
        let mut removed = Removed::default();
        let (mut receipts_left, mut events_left, mut audit_left) = (true, mark.is_some(), mark.is_some());
        loop {
            if receipts_left {
                let deleted = delete_receipts(&self.writer, expired).await?;
                removed.receipts += deleted;
                receipts_left = deleted == CHUNK.cast_unsigned();
            }
            if let Some(mark) = mark.filter(|_| events_left) {
                let deleted = self.delete_chunk(mark).await?;
                removed.events += deleted;
                events_left = deleted == CHUNK.cast_unsigned();
            }
            if let Some(mark) = mark.filter(|_| audit_left) {
                let deleted = delete_audit(&self.writer, mark.noted_at).await?;
                removed.audit += deleted;
                audit_left = deleted == CHUNK.cast_unsigned();
            }
            removed.more = receipts_left || events_left || audit_left;
            if !removed.more || Instant::now() >= until {
                return Ok(removed);
            }
        }
    }

    /// Adds a mark of arrival. Returns the one up to which events are older than the retention.
    async fn update_marks(&self, retention: Option<Duration>) -> Result<Option<Mark>, StoreError> {
        let mut guard = writer::lock(&self.writer).await?;
        let last_seq = guard.begin().await?;
        let mark = arrival_marks::update(guard.current().await?, last_seq, &self.clock, retention).await;
        end(&mut guard, &mark).await?;
        self.clock.observed();
        mark
    }

    /// Deletes events up to a mark, in one transaction. Returns how many.
    async fn delete_chunk(&self, mark: Mark) -> Result<u64, StoreError> {
        let mut guard = writer::lock(&self.writer).await?;
        guard.begin().await?;
        let deleted = delete_events(guard.current().await?, mark).await;
        if !matches!(deleted, Ok(0)) {
            // Before the commit, whose outcome may stay unknown.
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
        end(&mut guard, &deleted).await?;
        deleted
    }
}

/// Returns the time that is `age` ago, in µs since 1970.
fn before(age: Duration) -> Result<i64, StoreError> {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let time = Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(micros));
    time.map(Timestamp::as_micros).ok_or_else(|| StoreError::Failed(format!("{age:?} reaches back before the year 1")))
}

/// Deletes the oldest events up to a mark, and records how many were deleted and how far back duplicates are
/// recognised from now on.
async fn delete_events(connection: &mut SqliteConnection, mark: Mark) -> Result<u64, StoreError> {
    // What a backfill has not counted is left for it.
    let end = meters::backfilled_to(connection).await?.map_or(mark.seq, |counted| counted.min(mark.seq));
    let last = sqlx::query_scalar("SELECT max(seq) FROM (SELECT seq FROM events WHERE seq <= ? ORDER BY seq LIMIT ?)");
    let last: Option<i64> = last.bind(end).bind(CHUNK).fetch_one(&mut *connection).await.map_err(of_statement)?;
    let Some(last) = last else { return Ok(0) };
    // By its index on topics SQLite would read all events, to find them in the order of their topics.
    let count = sqlx::query(
        "INSERT INTO ledger (topic, shard, kind, events) \
         SELECT topic, ?, ?, count(*) FROM events NOT INDEXED WHERE seq <= ? GROUP BY topic \
         ON CONFLICT (topic, shard, kind) DO UPDATE SET events = events + excluded.events",
    );
    let count = count.bind(ledger::RETENTION).bind(LedgerKind::Removed.as_str()).bind(last);
    count.execute(&mut *connection).await.map_err(of_statement)?;
    let delete = sqlx::query("DELETE FROM events WHERE seq <= ?").bind(last);
    let deleted = delete.execute(&mut *connection).await.map_err(of_statement)?.rows_affected();
    if deleted > 0 {
        let record = sqlx::query(
            "INSERT INTO settings (name, value) \
             VALUES ('dedup_horizon', CAST(?1 AS TEXT)), ('removed_events', CAST(?2 AS TEXT)) \
             ON CONFLICT (name) DO UPDATE SET value = CAST(CASE name \
                 WHEN 'removed_events' THEN CAST(value AS INTEGER) + ?2 \
                 ELSE max(CAST(value AS INTEGER), ?1) END AS TEXT)",
        );
        let record = record.bind(mark.noted_at).bind(deleted.cast_signed());
        record.execute(connection).await.map_err(of_statement)?;
    }
    Ok(deleted)
}

/// Deletes old marks of attempts, whose entries are in no stream any more, and old outcomes of requests.
async fn forget_attempts(writer: &Arc<Mutex<Writer>>, before: i64) -> Result<(), StoreError> {
    let mut guard = writer::lock(writer).await?;
    let delete = sqlx::query("DELETE FROM attempts WHERE at < ?").bind(before);
    delete.execute(guard.connection().await?).await.map_err(of_statement)?;
    outcomes::remove(guard.connection().await?, before).await
}

/// Deletes a chunk of old receipts, and returns how many.
async fn delete_receipts(writer: &Arc<Mutex<Writer>>, before: i64) -> Result<u64, StoreError> {
    let mut guard = writer::lock(writer).await?;
    let delete =
        sqlx::query("DELETE FROM receipts WHERE id IN (SELECT id FROM receipts WHERE committed_at < ? LIMIT ?)");
    let deleted = delete.bind(before).bind(CHUNK).execute(guard.connection().await?).await;
    Ok(deleted.map_err(of_statement)?.rows_affected())
}

/// Deletes a chunk of old rows of the audit trail, which is retained for as long as the events, and returns how
/// many. Its rows are in the order of their time.
async fn delete_audit(writer: &Arc<Mutex<Writer>>, before: i64) -> Result<u64, StoreError> {
    let mut guard = writer::lock(writer).await?;
    guard.begin().await?;
    let deleted = delete_audit_chunk(guard.current().await?, before).await;
    end(&mut guard, &deleted).await?;
    deleted
}

/// Deletes the rows, and records how many, so that an audit can compare the trail with the counters.
async fn delete_audit_chunk(connection: &mut SqliteConnection, before: i64) -> Result<u64, StoreError> {
    let delete = sqlx::query(
        "DELETE FROM audit WHERE rowid IN ( \
             SELECT rowid FROM (SELECT rowid, at FROM audit ORDER BY rowid LIMIT ?) WHERE at < ?)",
    );
    let deleted = delete.bind(CHUNK).bind(before).execute(&mut *connection).await;
    let deleted = deleted.map_err(of_statement)?.rows_affected();
    if deleted > 0 {
        let row = LedgerRow { topic: "", kind: LedgerKind::AuditRemoved, events: deleted };
        ledger::add_to_ledger(connection, ledger::RETENTION, &[row]).await?;
    }
    Ok(deleted)
}
