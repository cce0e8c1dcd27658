//! Removes whole partitions of events.
//!
//! A partition is removed in two steps. The first one takes it from the list, counts its events as removed, and hides its
//! rows from all queries, in one transaction. The second one drops its table, when nobody uses it any more.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::super::arrival_marks::{self, Mark};
use super::super::connections::Lease;
use super::super::errors::within;
use super::super::insert::ORDINAL_BITS;
use super::super::ledger;
use super::super::partition_steps::{PartitionSteps, is_held_for_long};
use super::super::removals;
use super::super::timestamptz::Timestamptz;
use super::layout::{audit_table, first_seq, table};
use super::views;
use crate::StoreError;
use crate::ledger::LedgerKind;
use crate::postgres::PayloadType;

/// The longest that counting the rows of a partition may take.
const COUNT_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// The condition for a table `c` of `pg_class` that has what was in a removed partition. A detached table is no partition any
/// more, and is found by its name.
const IS_REMOVED: &str = "c.relkind = 'r' AND c.relname ~ '^(event|audit)_rows_[0-9]{1,9}$' \
     AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('event_layout')) \
     AND substring(c.relname FROM '[0-9]+$')::int < (SELECT min(number) FROM event_partitions)";

/// What a removed partition had.
pub(crate) struct RemovedPartition {
    pub events: u64,
    /// Rows of the audit trail.
    pub audit: u64,
}

/// Removes the oldest partition if all its events are older than a mark. Returns what it had; `None` if there is no such
/// partition, or another replica is removing rows at this time.
pub(crate) async fn remove_oldest(
    lease: &mut Lease,
    schema: &str,
    mark: Mark,
) -> Result<Option<RemovedPartition>, StoreError> {
    // All rows of the partition are counted.
    lease.begin_long(COUNT_DEADLINE).await?;
    let removed = remove(lease, schema, mark).await?;
    lease.end_long().await?;
    Ok(removed)
}

async fn remove(lease: &mut Lease, schema: &str, mark: Mark) -> Result<Option<RemovedPartition>, StoreError> {
    let deadline = lease.deadline();
    let work = async {
        let mut transaction = lease.begin().await?;
        if !arrival_marks::try_lock(&mut transaction, schema).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let oldest = sqlx::query_as::<_, (i32, Timestamptz)>(
            "WITH oldest AS ( \
                 DELETE FROM event_partitions \
                 WHERE number = (SELECT min(number) FROM event_partitions) \
                   AND closed_at IS NOT NULL AND last_batch <= $1 \
                   AND NOT EXISTS (SELECT FROM meters WHERE backfilled_to < ((last_batch + 1) << $2) - 1) \
                 RETURNING number, closed_at, filter), \
             groups AS ( \
                 DELETE FROM event_filter_groups WHERE last_partition <= (SELECT number FROM oldest) RETURNING filter), \
             gone AS ( \
                 DELETE FROM event_filters \
                 WHERE filter IN (SELECT filter FROM oldest UNION ALL SELECT filter FROM groups)) \
             SELECT number, closed_at FROM oldest",
        );
        let Some((number, closed_at)) =
            oldest.bind(mark.batch).bind(ORDINAL_BITS as i32).fetch_optional(&mut *transaction).await?
        else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let count = AssertSqlSafe(format!(
            "WITH gone AS (SELECT topic, count(*) AS events FROM {} GROUP BY topic), \
             counted AS ( \
                 INSERT INTO ledger AS l (topic, shard, kind, events) \
                 SELECT topic, $1, $2, events FROM gone ORDER BY topic \
                 ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events) \
             SELECT coalesce(sum(events), 0)::int8 FROM gone",
            table(number)
        ));
        let count = sqlx::query_scalar::<_, i64>(count).persistent(false);
        let events = count.bind(ledger::RETENTION).bind(LedgerKind::Removed.as_str()).fetch_one(&mut *transaction);
        let events = events.await?;
        let audit = count_audit(&mut transaction, number).await?;
        let hide = sqlx::query("UPDATE event_layout SET version = gen_random_uuid(), first_seq = $1");
        hide.bind(first_seq(number + 1)).execute(&mut *transaction).await?;
        removals::note(&mut transaction, events, closed_at.0).await?;
        transaction.commit().await?;
        tracing::info!(partition = number, events, audit, "a partition of events was removed");
        Ok(Some(RemovedPartition { events: events.cast_unsigned(), audit: audit.cast_unsigned() }))
    };
    let removed = within(deadline, work).await;
    lease.converted(removed)
}

/// Counts the rows of the audit trail with the batches of a partition as removed. Returns how many they are.
async fn count_audit(connection: &mut PgConnection, number: i32) -> Result<i64, sqlx::Error> {
    let table = audit_table(number);
    // The table of all events has none: its rows of the audit trail are deleted one by one.
    let exists = sqlx::query_scalar::<_, bool>("SELECT to_regclass($1) IS NOT NULL").bind(&table);
    if !exists.fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let count = AssertSqlSafe(format!(
        "WITH gone AS (SELECT count(*) AS rows FROM {table}), \
         counted AS ( \
             INSERT INTO ledger AS l (topic, shard, kind, events) \
             SELECT '', $1, $2, rows FROM gone WHERE rows > 0 \
             ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events) \
         SELECT rows FROM gone",
    ));
    let count = sqlx::query_scalar(count).persistent(false);
    count.bind(ledger::RETENTION).bind(LedgerKind::AuditRemoved.as_str()).fetch_one(connection).await
}

/// Drops the tables of removed partitions, as far as nobody uses them.
pub(crate) async fn drop_tables(
    lease: &mut Lease,
    schema: &str,
    steps: &PartitionSteps,
    payload: PayloadType,
) -> Result<(), StoreError> {
    let removed = AssertSqlSafe(format!(
        "SELECT c.relname::text, i.inhdetachpending, \
                EXISTS (SELECT FROM pg_depend AS d WHERE d.refobjid = c.oid AND d.classid = 'pg_rewrite'::regclass) \
         FROM pg_class AS c LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid WHERE {IS_REMOVED} ORDER BY c.oid"
    ));
    let removed = sqlx::query_as::<_, (String, Option<bool>, bool)>(removed);
    for (table, is_detach_pending, is_in_views) in lease.fetch_all(removed).await? {
        let parent = if table.starts_with("audit") { "audit_rows" } else { "event_rows" };
        if is_held_for_long(lease, &[parent, &table]).await? {
            tracing::debug!(table, "the table is dropped later: a dump, or another long transaction, reads it");
            return Ok(());
        }
        // CONCURRENTLY, so that nobody waits for it. It cannot be done in a transaction, and leaves a state of its own
        // behind if it is interrupted.
        let detach = match is_detach_pending {
            Some(false) => Some("CONCURRENTLY"),
            Some(true) => Some("FINALIZE"),
            None => None,
        };
        if let Some(how) = detach {
            let sql = format!("ALTER TABLE {parent} DETACH PARTITION {table} {how}");
            if !steps.attempt(lease, sql, "the table of a removed partition was detached").await? {
                return Ok(());
            }
        }
        // The views name the table of a schema that had only one.
        let views = if is_in_views { views::create(payload, None) } else { String::new() };
        // A transaction that began before the partition was removed may be about to look keys up in its table.
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {lock} \
             LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; {views}; DROP TABLE {table}; COMMIT",
            lock = steps.lock(schema),
        );
        if !steps.attempt(lease, sql, "the table of a removed partition was dropped").await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns the number of the oldest removed partition that has a table.
pub(crate) async fn oldest_removed(lease: &mut Lease) -> Result<Option<i32>, StoreError> {
    let select = format!("SELECT min(substring(c.relname FROM '[0-9]+$')::int) FROM pg_class AS c WHERE {IS_REMOVED}");
    let (number,) = lease.fetch_one(sqlx::query_as(AssertSqlSafe(select))).await?;
    Ok(number)
}
