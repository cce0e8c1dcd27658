//! Removes events that are older than the retention time: whole partitions, or in small steps where events do not lie
//! in partitions.
//!
//! The age of an event is counted from the time at which it was stored, which the marks of arrival tell
//! ([`arrival_marks`]). They are the numbers of batches, which are the high bits of `seq`, so the old events are a
//! range of the index on `seq`, and no second index has to be maintained for them.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection};

use super::arrival_marks::{self, Mark};
use super::connections::Lease;
use super::errors::within;
use super::event_partitions::remove;
use super::insert;
use super::ledger;
use super::meters;
use super::outcomes;
use super::removals;
use super::timestamptz::Timestamptz;
use crate::ledger::LedgerKind;
use crate::partitions::Layout;
use crate::retention_clock::{RetentionClock, micros};
use crate::{Maintenance, Removed, StoreError};

/// Rows deleted in one transaction: it takes milliseconds, so that batches hardly wait for its locks.
const CHUNK: i64 = 5_000;

/// Deletes old events, old marks of attempts and old audit rows: by turns, so that none of them has to wait for
/// the others to be finished.
pub(super) async fn maintain(
    lease: &mut Lease,
    schema: &str,
    clock: &RetentionClock,
    layout: &Layout,
    maintenance: &Maintenance,
) -> Result<Removed, StoreError> {
    let until = Instant::now() + maintenance.max_duration;
    forget_attempts(lease, maintenance.receipts_ttl).await?;
    outcomes::remove(lease, maintenance.receipts_ttl).await?;
    let mut removed = Removed::default();
    let Some(mark) = arrival_marks::update(lease, schema, clock, maintenance.retention).await? else {
        return Ok(removed);
    };
    let one_table = layout.one_table();
    let audit_table = audit_table(lease, layout).await?;
    let mut after = i64::MIN;
    let (mut events_left, mut audit_left) = (true, audit_table.is_some());
    loop {
        if events_left {
            let chunk = match &one_table {
                Some(table) => delete_chunk(lease, schema, table, after, mark).await?,
                None => Chunk::default(),
            };
            removed.events += chunk.deleted.cast_unsigned();
            after = chunk.last.unwrap_or(after);
            events_left = chunk.deleted == CHUNK;
            if !events_left && layout.open().is_some() {
                let partition = remove::remove_oldest(lease, schema, mark).await?;
                events_left = partition.is_some();
                if let Some(partition) = partition {
                    removed.events += partition.events;
                    removed.audit += partition.audit;
                }
            }
        }
        if let Some(table) = audit_table.filter(|_| audit_left) {
            let deleted = delete_audit(lease, table, Timestamptz(mark.noted_at)).await?;
            removed.audit += deleted.cast_unsigned();
            audit_left = deleted == CHUNK;
        }
        removed.more = events_left || audit_left;
        if !removed.more || Instant::now() >= until {
            return Ok(removed);
        }
    }
}

#[derive(Default)]
struct Chunk {
    deleted: i64,
    /// The largest `seq` among the deleted events.
    last: Option<i64>,
}

/// Deletes events up to a mark, and records in the same transaction how many were deleted and how far back
/// duplicates are recognised from now on, and in the ledger how many of each topic. Every transaction that
/// begins later reads the number, in all replicas, and so learns that events it has cached as stored may have been
/// deleted. Deletes nothing if another replica is doing so at this time.
async fn delete_chunk(
    lease: &mut Lease,
    schema: &str,
    table: &str,
    after: i64,
    mark: Mark,
) -> Result<Chunk, StoreError> {
    let deadline = lease.deadline();
    let work = async {
        let mut transaction = lease.begin().await?;
        if !arrival_marks::try_lock(&mut transaction, schema).await? {
            transaction.rollback().await?;
            return Ok(Chunk::default());
        }
        // What a backfill has not counted is left for it.
        let backfilled_to = meters::backfilled_to(&mut transaction).await?.unwrap_or(i64::MAX);
        // By the place of the rows, which lie side by side, and not by their keys, which lie anywhere in an index.
        // `after` spares the index entries that were deleted a moment ago.
        let delete = format!(
            "WITH gone AS ( \
                 DELETE FROM {table} WHERE ctid = ANY (ARRAY ( \
                     SELECT ctid FROM {table} WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT $3)) \
                 RETURNING seq, topic), \
             counted AS ( \
                 INSERT INTO ledger AS l (topic, shard, kind, events) \
                 SELECT topic, $4, $5, count(*) FROM gone GROUP BY topic ORDER BY topic \
                 ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events) \
             SELECT count(*), max(seq) FROM gone",
        );
        let (deleted, last) = sqlx::query_as::<_, (i64, Option<i64>)>(AssertSqlSafe(delete))
            .bind(after)
            .bind(insert::seq(mark.batch + 1, 0).min(backfilled_to.saturating_add(1)))
            .bind(CHUNK)
            .bind(ledger::RETENTION)
            .bind(LedgerKind::Removed.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        removals::note(&mut transaction, deleted, mark.noted_at).await?;
        transaction.commit().await?;
        Ok(Chunk { deleted, last })
    };
    let chunk = within(deadline, work).await;
    lease.converted(chunk)
}

/// Deletes marks of attempts whose entries are in no stream any more: they were acknowledged or dead-lettered.
async fn forget_attempts(lease: &mut Lease, ttl: Duration) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM attempts WHERE at < now() - $1 * interval '1 microsecond'").bind(micros(ttl));
    lease.execute(delete).await
}

/// Returns the table of the audit trail whose rows are deleted one by one: all of it where events lie in one table, and what
/// was written before they were put into partitions.
async fn audit_table(lease: &mut Lease, layout: &Layout) -> Result<Option<&'static str>, StoreError> {
    if layout.open().is_none() {
        return Ok(Some("audit"));
    }
    let exists = "SELECT to_regclass('audit_before') IS NOT NULL";
    let (exists,): (bool,) = lease.fetch_one(sqlx::query_as(exists)).await?;
    Ok(exists.then_some("audit_before"))
}

/// Deletes a chunk of old rows of the audit trail, which is retained for as long as the events. Returns how many.
async fn delete_audit(lease: &mut Lease, table: &str, before: Timestamptz) -> Result<i64, StoreError> {
    let delete = format!(
        "WITH gone AS ( \
             DELETE FROM {table} \
             WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE at < $1 ORDER BY at LIMIT $2)) RETURNING 1), \
         counted AS ( \
             INSERT INTO ledger AS l (topic, shard, kind, events) \
             SELECT '', $3, $4, count(*) FROM gone HAVING count(*) > 0 \
             ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events) \
         SELECT count(*) FROM gone",
    );
    let delete = sqlx::query_as(AssertSqlSafe(delete));
    let delete = delete.bind(before).bind(CHUNK).bind(ledger::RETENTION).bind(LedgerKind::AuditRemoved.as_str());
    let (deleted,): (i64,) = lease.fetch_one(delete).await?;
    Ok(deleted)
}
