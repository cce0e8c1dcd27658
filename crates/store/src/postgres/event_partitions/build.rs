//! The statements by which filters are built ([`crate::partitions`] says in which order), stored and loaded.

use std::time::Duration;

use futures::TryStreamExt;
use sluice_event::EventKey;
use sqlx::AssertSqlSafe;

use super::super::connections::Lease;
use super::super::errors::within;
use super::super::locks::lock_id;
use super::layout::table;
use crate::StoreError;
use crate::partitions::FilterName;

/// The longest that one statement may take that reads a whole partition: a few seconds for one of the default size, and
/// minutes for the table of all events that an older version has filled.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The name of the lock under which one replica at a time builds a filter.
const LOCK: &str = "build filter";

/// Takes the lock and, if nobody else has it, gives the statements that follow the time that they need.
pub(crate) async fn begin(lease: &mut Lease, schema: &str) -> Result<bool, StoreError> {
    // The lock belongs to the session: if building fails, the connection is closed, and with it the lock is released.
    let lock = sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(lock_id(schema, LOCK));
    let (locked,): (bool,) = lease.fetch_one(lock).await?;
    if locked {
        lease.begin_long(STATEMENT_DEADLINE).await?;
    }
    Ok(locked)
}

/// Ends what [`begin`] began.
pub(crate) async fn end(lease: &mut Lease, schema: &str) -> Result<(), StoreError> {
    lease.end_long().await?;
    lease.execute(sqlx::query("SELECT pg_advisory_unlock($1)").bind(lock_id(schema, LOCK))).await
}

/// Returns whether a partition is listed and has no filter.
pub(crate) async fn has_no_filter(lease: &mut Lease, partition: i32) -> Result<bool, StoreError> {
    let select = "SELECT EXISTS (SELECT FROM event_partitions WHERE number = $1 AND filter IS NULL)";
    let (is_missing,): (bool,) = lease.fetch_one(sqlx::query_as(select).bind(partition)).await?;
    Ok(is_missing)
}

/// Forgets the filter of a partition or a group, so that it is built again.
pub(crate) async fn forget(lease: &mut Lease, FilterName { id, .. }: &FilterName) -> Result<(), StoreError> {
    let forget = sqlx::query(
        "WITH of_partition AS ( \
             UPDATE event_partitions SET filter = NULL, filter_keys = NULL WHERE filter = $1::text::uuid RETURNING 1), \
         of_group AS (DELETE FROM event_filter_groups WHERE filter = $1::text::uuid RETURNING 1), \
         gone AS (DELETE FROM event_filters WHERE filter = $1::text::uuid) \
         UPDATE event_layout SET version = gen_random_uuid() \
         WHERE EXISTS (SELECT FROM of_partition UNION ALL SELECT FROM of_group)",
    );
    lease.execute(forget.bind(id)).await
}

/// Removes what a process that was killed has left.
pub(crate) async fn remove_unfinished(lease: &mut Lease) -> Result<(), StoreError> {
    let unfinished = "DELETE FROM event_filters AS f \
                      WHERE NOT EXISTS (SELECT FROM event_partitions AS p WHERE p.filter = f.filter) \
                        AND NOT EXISTS (SELECT FROM event_filter_groups AS g WHERE g.filter = f.filter)";
    lease.execute(sqlx::query(unfinished)).await
}

/// Returns the number of keys in a partition, and a random name for their filter.
pub(crate) async fn name_filter(lease: &mut Lease, partition: i32) -> Result<(FilterName, u64), StoreError> {
    let count = AssertSqlSafe(format!("SELECT count(*), gen_random_uuid()::text FROM {}", table(partition)));
    let (keys, id): (i64, String) = lease.fetch_one(sqlx::query_as(count)).await?;
    Ok((FilterName { partition, id }, keys.cast_unsigned()))
}

/// Reads keys from the index of a partition.
pub(crate) async fn keys(
    lease: &mut Lease,
    partition: i32,
    from: EventKey,
    before: Option<EventKey>,
) -> Result<Vec<EventKey>, StoreError> {
    let end = if before.is_some() { " AND key < $2" } else { "" };
    let text = AssertSqlSafe(format!("SELECT key FROM {} WHERE key >= $1{end}", table(partition)));
    let mut select = sqlx::query_scalar::<_, EventKey>(text).persistent(false).bind(from);
    if before.is_some() {
        select = select.bind(before);
    }
    let deadline = lease.deadline();
    let keys = within(deadline, select.fetch(&mut **lease).try_collect()).await;
    lease.converted(keys)
}

/// Stores a segment.
pub(crate) async fn insert_segment(
    lease: &mut Lease,
    filter: &FilterName,
    number: u32,
    content: Vec<u8>,
) -> Result<(), StoreError> {
    let insert = sqlx::query("INSERT INTO event_filters (filter, segment, content) VALUES ($1::text::uuid, $2, $3)");
    lease.execute(insert.bind(&filter.id).bind(number as i32).bind(content)).await
}

/// Gives a partition its filter, of which all segments are stored.
pub(crate) async fn finish(lease: &mut Lease, filter: &FilterName, keys: u64) -> Result<(), StoreError> {
    let finish = sqlx::query(
        "WITH finished AS ( \
             UPDATE event_partitions SET filter = $2::text::uuid, filter_keys = $3 \
             WHERE number = $1 AND filter IS NULL AND closed_at IS NOT NULL RETURNING 1) \
         UPDATE event_layout SET version = gen_random_uuid() WHERE EXISTS (SELECT FROM finished)",
    );
    lease.execute(finish.bind(filter.partition).bind(&filter.id).bind(keys.cast_signed())).await
}

/// Returns a stored segment.
pub(crate) async fn segment(
    lease: &mut Lease,
    filter: &FilterName,
    number: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let select = sqlx::query_as::<_, (Vec<u8>,)>(
        "SELECT content FROM event_filters WHERE filter = $1::text::uuid AND segment = $2",
    );
    let content = lease.fetch_optional(select.bind(&filter.id).bind(number as i32)).await?;
    Ok(content.map(|(bytes,)| bytes))
}
