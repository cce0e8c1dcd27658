//! Vacuums closed partitions: nothing in them changes any more, so each needs it once.
//!
//! Afterwards the keys of a partition are looked up in its index alone, and no later reader of its rows has to write that
//! they are committed. It is done before the filter is built, which then reads the keys of the index alone.
//!
//! It does not freeze the rows: that would write each page to the log, in full after a checkpoint. The server freezes those
//! that are still there when it needs the numbers of their transactions again, after 200 million transactions.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::super::connections::Lease;
use super::super::locks::lock_id;
use super::layout::table;
use crate::StoreError;

/// The longest that it may take: some seconds for a partition of the default size.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The name of the lock under which one replica at a time vacuums.
const LOCK: &str = "vacuum partition";

/// Vacuums the oldest closed partition that was not vacuumed yet. Does nothing if there is none, or another replica
/// is vacuuming one.
pub(crate) async fn vacuum_next(lease: &mut Lease, schema: &str) -> Result<(), StoreError> {
    // The lock belongs to the session: if vacuuming fails, the connection is closed, and with it the lock is released.
    let lock = sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(lock_id(schema, LOCK));
    let (locked,): (bool,) = lease.fetch_one(lock).await?;
    if !locked {
        return Ok(());
    }
    if let Some(number) = next(lease).await? {
        lease.begin_long(DEADLINE).await?;
        lease.run(AssertSqlSafe(format!("VACUUM (ANALYZE, TRUNCATE FALSE) {}", table(number)))).await?;
        lease.end_long().await?;
    }
    lease.execute(sqlx::query("SELECT pg_advisory_unlock($1)").bind(lock_id(schema, LOCK))).await
}

/// Returns the oldest closed partition that was not vacuumed yet. One of which nothing could be marked, because an old
/// snapshot is still in use, is tried again after ten minutes. What was the table of all events is left to the server:
/// its rows are deleted one by one.
async fn next(lease: &mut Lease) -> Result<Option<i32>, StoreError> {
    // reltuples is -1 before the first vacuum or analysis of a table, and 0 if it has no rows.
    let select = sqlx::query_as(
        "SELECT p.number FROM event_partitions AS p JOIN pg_class AS c ON c.oid = to_regclass('event_rows_' || p.number) \
         WHERE p.closed_at IS NOT NULL AND NOT p.was_events \
           AND c.relallvisible = 0 AND c.reltuples <> 0 \
           AND coalesce(pg_stat_get_last_vacuum_time(c.oid) < clock_timestamp() - interval '10 minutes', true) \
         ORDER BY p.number LIMIT 1",
    );
    let number: Option<(i32,)> = lease.fetch_optional(select).await?;
    Ok(number.map(|(number,)| number))
}
