//! Deleting what is older than it must be kept, a little at a time.
//!
//! Old events are found by walking the index on `seq` from its beginning: rows arrive roughly in
//! the order of `received_at`, so the old ones stand there, and no second index has to be kept for
//! them. (A BRIN index on `received_at` would be as cheap to keep, but once deleted rows make room
//! for new ones its ranges cover both old and new, and never shrink: every look would read the
//! whole table.) A row that is older than its neighbours, such as a replayed dead letter, goes when
//! the walk reaches it: late, never early.

use std::time::{Duration, Instant};

use sluice_event::Timestamp;
use sqlx::Connection;

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::locks::lock_id;
use super::timestamptz::Timestamptz;
use crate::{Maintenance, StoreError};

/// Rows looked at in one transaction.
const CHUNK: i64 = 5_000;
/// The walk ends after so many chunks in a row without an old event.
const CHUNKS_WITHOUT: u32 = 2;
/// The longest that one call goes on.
const AT_MOST: Duration = Duration::from_secs(5);

/// Removes old events, savepoint_set attempts and audit rows; answers how many events went.
pub(super) async fn maintain(lease: &mut Lease, schema: &str, maintenance: &Maintenance) -> Result<u64, StoreError> {
    let until = Instant::now() + AT_MOST;
    forget_attempts(lease, maintenance.receipts_ttl).await?;
    let Some(retention) = maintenance.retention else {
        return Ok(0);
    };
    let cutoff = cutoff(lease, retention).await?;
    delete_audit(lease, cutoff).await?;
    let (mut after, mut total, mut without) = (0, 0, 0);
    while Instant::now() < until {
        let Some(chunk) = delete_chunk(lease, schema, after, cutoff).await? else {
            break;
        };
        total += chunk.deleted.cast_unsigned();
        without = if chunk.deleted == 0 { without + 1 } else { 0 };
        after = chunk.last.unwrap_or(after);
        if chunk.seen < CHUNK || without == CHUNKS_WITHOUT {
            break;
        }
    }
    Ok(total)
}

/// By the database's clock.
async fn cutoff(lease: &mut Lease, retention: Duration) -> Result<Timestamptz, StoreError> {
    let micros = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let now = sqlx::query_scalar::<_, Timestamptz>("SELECT clock_timestamp()");
    let Timestamptz(now) = within(lease.deadline(), now.fetch_one(&mut **lease)).await.map_err(of_statement)?;
    let cutoff = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
    cutoff.map(Timestamptz).ok_or_else(|| StoreError::Failed("the retention reaches back before the year 1".into()))
}

struct Chunk {
    seen: i64,
    deleted: i64,
    last: Option<i64>,
}

/// One transaction: the events, and how far back duplicates are recognised from now on. `None` when
/// another replica is at it.
async fn delete_chunk(
    lease: &mut Lease,
    schema: &str,
    after: i64,
    cutoff: Timestamptz,
) -> Result<Option<Chunk>, StoreError> {
    let deadline = lease.deadline();
    let work = async {
        let mut transaction = lease.begin().await?;
        let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(lock_id(schema, "maintain"))
            .fetch_one(&mut *transaction)
            .await?;
        if !mine {
            transaction.rollback().await?;
            return Ok(None);
        }
        let (seen, deleted, last) = sqlx::query_as::<_, (i64, i64, Option<i64>)>(
            "WITH seen AS MATERIALIZED ( \
                 SELECT key, seq, received_at FROM events WHERE seq > $1 ORDER BY seq LIMIT $2), \
             gone AS ( \
                 DELETE FROM events USING seen WHERE events.key = seen.key AND seen.received_at < $3 RETURNING 1) \
             SELECT (SELECT count(*) FROM seen) AS seen, (SELECT count(*) FROM gone) AS deleted, \
                    (SELECT max(seq) FROM seen) AS last",
        )
        .bind(after)
        .bind(CHUNK)
        .bind(cutoff)
        .fetch_one(&mut *transaction)
        .await?;
        if deleted > 0 {
            sqlx::query(
                "INSERT INTO settings AS s (name, value) VALUES ('dedup_horizon', $1::int8::text) \
                 ON CONFLICT (name) DO UPDATE SET value = greatest(s.value::int8, $1)::text",
            )
            .bind(cutoff.0.as_micros())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(Some(Chunk { seen, deleted, last }))
    };
    within(deadline, work).await.map_err(of_statement)
}

/// Attempts whose entry was settled otherwise: by then it is in no stream any more.
async fn forget_attempts(lease: &mut Lease, keep: Duration) -> Result<(), StoreError> {
    let micros = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let delete = sqlx::query("DELETE FROM attempts WHERE at < now() - $1 * interval '1 microsecond'").bind(micros);
    within(lease.deadline(), delete.execute(&mut **lease)).await.map(|_| ()).map_err(of_statement)
}

/// The audit trail is kept for as long as the events it speaks of.
async fn delete_audit(lease: &mut Lease, cutoff: Timestamptz) -> Result<(), StoreError> {
    let delete = sqlx::query(
        "DELETE FROM audit WHERE ctid = ANY (ARRAY (SELECT ctid FROM audit WHERE at < $1 ORDER BY at LIMIT 50000))",
    );
    let delete = delete.bind(cutoff);
    within(lease.deadline(), delete.execute(&mut **lease)).await.map(|_| ()).map_err(of_statement)
}
