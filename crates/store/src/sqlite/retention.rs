//! Deletes rows that are older than the retention time, in small steps, so that batches are stored in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_event::Timestamp;
use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use super::errors::of_statement;
use super::writer::{self, Writer};
use crate::{Maintenance, Removed, StoreError};

/// Rows examined in one transaction.
const CHUNK: i64 = 5_000;
/// Chunks in a row without an old event, after which the walk ends: rows are in the order of their arrival, so
/// nearly all old ones come first.
const MAX_CHUNKS_WITHOUT: u32 = 2;
/// Deletes old events, receipts, marks of attempts and audit rows: by turns, so that none of them has to wait for
/// the others to be finished.
pub(super) async fn maintain(
    writer: &Arc<Mutex<Writer>>,
    removals: &AtomicU64,
    maintenance: &Maintenance,
) -> Result<Removed, StoreError> {
    let until = Instant::now() + maintenance.max_duration;
    let expired = before(maintenance.receipts_ttl)?;
    let cutoff = maintenance.retention.map(before).transpose()?;
    forget_attempts(writer, expired).await?;
    let mut removed = Removed::default();
    let (mut after, mut without) = (0, 0);
    let (mut receipts_left, mut events_left, mut audit_left) = (true, true, true);
    loop {
        if receipts_left {
            let deleted = delete_receipts(writer, expired).await?;
            removed.receipts += deleted;
            receipts_left = deleted == CHUNK.cast_unsigned();
        }
        if let Some(cutoff) = cutoff.filter(|_| events_left) {
            let chunk = delete_chunk(writer, removals, after, cutoff).await?;
            removed.events += chunk.deleted;
            without = if chunk.deleted == 0 { without + 1 } else { 0 };
            after = chunk.last.unwrap_or(after);
            events_left = chunk.examined == CHUNK && without < MAX_CHUNKS_WITHOUT;
        }
        if let Some(cutoff) = cutoff.filter(|_| audit_left) {
            let deleted = delete_audit(writer, cutoff).await?;
            removed.audit += deleted;
            audit_left = deleted == CHUNK.cast_unsigned();
        }
        removed.more = receipts_left || (cutoff.is_some() && (events_left || audit_left));
        if !removed.more || Instant::now() >= until {
            return Ok(removed);
        }
    }
}

/// Returns the time that is `age` ago, in µs since 1970.
fn before(age: Duration) -> Result<i64, StoreError> {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let time = Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(micros));
    time.map(Timestamp::as_micros).ok_or_else(|| StoreError::Failed(format!("{age:?} reaches back before the year 1")))
}

struct Chunk {
    examined: i64,
    deleted: u64,
    last: Option<i64>,
}

/// Deletes the old events of one chunk, in one transaction.
async fn delete_chunk(
    writer: &Arc<Mutex<Writer>>,
    removals: &AtomicU64,
    after: i64,
    cutoff: i64,
) -> Result<Chunk, StoreError> {
    let mut guard = writer::lock(writer).await?;
    guard.begin().await?;
    let chunk = delete_events(guard.current().await?, after, cutoff).await;
    match &chunk {
        Ok(chunk) => {
            if chunk.deleted > 0 {
                // Before the commit, whose outcome may stay unknown.
                removals.fetch_add(1, Ordering::AcqRel);
            }
            guard.commit().await?;
        }
        // Rolls back.
        Err(_) => guard.connection().await.map(|_| ())?,
    }
    chunk
}

/// Deletes the old ones among the next events, and records how many were deleted and how far back duplicates are
/// recognised from now on.
async fn delete_events(connection: &mut SqliteConnection, after: i64, cutoff: i64) -> Result<Chunk, StoreError> {
    let select =
        sqlx::query_as("SELECT count(*), max(seq) FROM (SELECT seq FROM events WHERE seq > ? ORDER BY seq LIMIT ?)");
    let (examined, last): (i64, Option<i64>) =
        select.bind(after).bind(CHUNK).fetch_one(&mut *connection).await.map_err(of_statement)?;
    let delete = sqlx::query("DELETE FROM events WHERE seq > ? AND seq <= ? AND received_at < ?");
    let delete = delete.bind(after).bind(last.unwrap_or(after)).bind(cutoff);
    let deleted = delete.execute(&mut *connection).await.map_err(of_statement)?.rows_affected();
    if deleted > 0 {
        let record = sqlx::query(
            "INSERT INTO settings (name, value) \
             VALUES ('dedup_horizon', CAST(?1 AS TEXT)), ('removed_events', CAST(?2 AS TEXT)) \
             ON CONFLICT (name) DO UPDATE SET value = CAST(CASE name \
                 WHEN 'removed_events' THEN CAST(value AS INTEGER) + ?2 \
                 ELSE max(CAST(value AS INTEGER), ?1) END AS TEXT)",
        );
        let record = record.bind(cutoff).bind(deleted.cast_signed());
        record.execute(connection).await.map_err(of_statement)?;
    }
    Ok(Chunk { examined, deleted, last })
}

/// Deletes old marks of attempts: their entries are in no stream any more.
async fn forget_attempts(writer: &Arc<Mutex<Writer>>, before: i64) -> Result<(), StoreError> {
    let mut guard = writer::lock(writer).await?;
    let delete = sqlx::query("DELETE FROM attempts WHERE at < ?").bind(before);
    delete.execute(guard.connection().await?).await.map(|_| ()).map_err(of_statement)
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
async fn delete_audit(writer: &Arc<Mutex<Writer>>, cutoff: i64) -> Result<u64, StoreError> {
    let mut guard = writer::lock(writer).await?;
    let delete = sqlx::query(
        "DELETE FROM audit WHERE rowid IN (SELECT rowid FROM (SELECT rowid, at FROM audit ORDER BY rowid LIMIT ?) WHERE at < ?)",
    );
    let deleted = delete.bind(CHUNK).bind(cutoff).execute(guard.connection().await?).await;
    Ok(deleted.map_err(of_statement)?.rows_affected())
}
