//! Deletes events that are older than the retention time, in small steps.
//!
//! Old events are found by walking the index on `seq` from its beginning: rows arrive roughly in the order of
//! `received_at`, so the old ones come first, and no second index has to be maintained for them. (A BRIN
//! index on `received_at` would cost as little, but once new rows fill the space of deleted ones, its ranges
//! cover both old and new rows and never shrink: every walk would read the whole table.) A row that is older
//! than its neighbours, such as a replayed dead letter, is deleted when the walk reaches it: late, never
//! early.

use std::time::{Duration, Instant};

use sluice_event::Timestamp;
use sqlx::Connection;

use super::connections::Lease;
use super::errors::within;
use super::locks::lock_id;
use super::timestamptz::Timestamptz;
use crate::{Maintenance, Removed, StoreError};

/// Rows examined in one transaction: it takes milliseconds, so that batches hardly wait for its locks.
const CHUNK: i64 = 5_000;
/// Chunks in a row without an old event, after which the walk ends. One chunk may consist of rows that
/// arrived out of order.
const MAX_CHUNKS_WITHOUT: u32 = 2;

/// Deletes old events, old marks of attempts and old audit rows: by turns, so that none of them has to wait for
/// the others to be finished.
pub(super) async fn maintain(
    lease: &mut Lease,
    schema: &str,
    maintenance: &Maintenance,
) -> Result<Removed, StoreError> {
    let until = Instant::now() + maintenance.max_duration;
    forget_attempts(lease, maintenance.receipts_ttl).await?;
    let mut removed = Removed::default();
    let Some(retention) = maintenance.retention else {
        return Ok(removed);
    };
    let cutoff = cutoff(lease, retention).await?;
    let (mut after, mut without) = (0, 0);
    let (mut events_left, mut audit_left) = (true, true);
    loop {
        if events_left {
            let chunk = delete_chunk(lease, schema, after, cutoff).await?;
            removed.events += chunk.deleted.cast_unsigned();
            without = if chunk.deleted == 0 { without + 1 } else { 0 };
            after = chunk.last.unwrap_or(after);
            events_left = chunk.examined == CHUNK && without < MAX_CHUNKS_WITHOUT;
        }
        if audit_left {
            let deleted = delete_audit(lease, cutoff).await?;
            removed.audit += deleted.cast_unsigned();
            audit_left = deleted == CHUNK;
        }
        removed.more = events_left || audit_left;
        if !removed.more || Instant::now() >= until {
            return Ok(removed);
        }
    }
}

/// Returns the time before which events are old, by the database's clock.
async fn cutoff(lease: &mut Lease, retention: Duration) -> Result<Timestamptz, StoreError> {
    let micros = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let now = sqlx::query_as("SELECT clock_timestamp()");
    let (Timestamptz(now),): (Timestamptz,) = lease.fetch_one(now).await?;
    let cutoff = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
    cutoff.map(Timestamptz).ok_or_else(|| StoreError::Failed("the retention reaches back before the year 1".into()))
}

#[derive(Default)]
struct Chunk {
    examined: i64,
    deleted: i64,
    last: Option<i64>,
}

/// Deletes old events, and records in the same transaction how many were deleted and how far back duplicates are
/// recognised from now on. Every transaction that begins later reads the number, in all replicas, and so learns
/// that events it has cached as stored may have been deleted. Returns `None` if another replica is doing so at this time.
async fn delete_chunk(lease: &mut Lease, schema: &str, after: i64, cutoff: Timestamptz) -> Result<Chunk, StoreError> {
    let deadline = lease.deadline();
    let work = async {
        let mut transaction = lease.begin().await?;
        let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(lock_id(schema, "maintain"))
            .fetch_one(&mut *transaction)
            .await?;
        if !mine {
            transaction.rollback().await?;
            return Ok(Chunk::default());
        }
        let (examined, deleted, last) = sqlx::query_as::<_, (i64, i64, Option<i64>)>(
            "WITH examined AS MATERIALIZED ( \
                 SELECT key, seq, received_at FROM events WHERE seq > $1 ORDER BY seq LIMIT $2), \
             gone AS ( \
                 DELETE FROM events USING examined WHERE events.key = examined.key AND examined.received_at < $3 RETURNING 1) \
             SELECT (SELECT count(*) FROM examined) AS examined, (SELECT count(*) FROM gone) AS deleted, \
                    (SELECT max(seq) FROM examined) AS last",
        )
        .bind(after)
        .bind(CHUNK)
        .bind(cutoff)
        .fetch_one(&mut *transaction)
        .await?;
        if deleted > 0 {
            sqlx::query(
                "INSERT INTO settings AS s (name, value) \
                 VALUES ('dedup_horizon', $1::int8::text), ('removed_events', $2::int8::text) \
                 ON CONFLICT (name) DO UPDATE SET value = CASE s.name \
                     WHEN 'removed_events' THEN s.value::int8 + $2 ELSE greatest(s.value::int8, $1) END::text",
            )
            .bind(cutoff.0.as_micros())
            .bind(deleted)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(Chunk { examined, deleted, last })
    };
    let chunk = within(deadline, work).await;
    lease.converted(chunk)
}

/// Deletes marks of attempts whose entries are in no stream any more: they were acknowledged or dead-lettered.
async fn forget_attempts(lease: &mut Lease, ttl: Duration) -> Result<(), StoreError> {
    let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    let delete = sqlx::query("DELETE FROM attempts WHERE at < now() - $1 * interval '1 microsecond'").bind(micros);
    lease.execute(delete).await
}

/// Deletes a chunk of old rows of the audit trail, which is retained for as long as the events. Returns how many.
async fn delete_audit(lease: &mut Lease, cutoff: Timestamptz) -> Result<i64, StoreError> {
    let delete = sqlx::query_as(
        "WITH gone AS ( \
             DELETE FROM audit \
             WHERE ctid = ANY (ARRAY (SELECT ctid FROM audit WHERE at < $1 ORDER BY at LIMIT $2)) RETURNING 1) \
         SELECT count(*) FROM gone",
    );
    let (deleted,): (i64,) = lease.fetch_one(delete.bind(cutoff).bind(CHUNK)).await?;
    Ok(deleted)
}
