//! Makes closed partitions ready to be looked up in: builds and loads their filters, and lets them be vacuumed.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use sluice_event::EventKey;
use sqlx::AssertSqlSafe;

use super::super::connections::Lease;
use super::super::errors::within;
use super::super::locks::lock_id;
use super::layout::{Closed, Layout, Layouts, table};
use super::{Filters, vacuum};
use crate::StoreError;
use crate::key_filter::{FilterName, Segment, first_key, segment_bits};

/// The longest that one statement may take that reads a whole partition: a few seconds for one of the default size, and
/// minutes for the table of all events that an older version has filled.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The name of the lock under which one replica at a time builds a filter.
const LOCK: &str = "build filter";

/// Loads the filters of closed partitions, builds those that are missing or damaged, and vacuums a partition if one was not
/// vacuumed yet. Returns the layout afterwards.
pub(crate) async fn make_ready(
    lease: &mut Lease,
    schema: &str,
    layouts: &Layouts,
    filters: &Filters,
) -> Result<Arc<Layout>, StoreError> {
    let mut layout = layouts.read(lease).await?;
    // Those that there are first: building one can take long, and can fail.
    let damaged = filters.load(lease, &layout).await?;
    forget(lease, &damaged).await?;
    while build_next(lease, schema, &layout).await? {
        layout = layouts.read(lease).await?;
        filters.load(lease, &layout).await?;
    }
    vacuum::vacuum_next(lease, schema).await?;
    Ok(layout)
}

/// Builds the filter of the newest closed partition that has none. Returns false if there is no
/// such partition, or another replica is building one.
async fn build_next(lease: &mut Lease, schema: &str, layout: &Layout) -> Result<bool, StoreError> {
    let Some(Closed { number, .. }) = layout.closed.iter().find(|closed| closed.filter.is_none()) else {
        return Ok(false);
    };
    // The lock belongs to the session: if building fails, the connection is closed, and with it the lock is released.
    let lock = sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(lock_id(schema, LOCK));
    let (locked,): (bool,) = lease.fetch_one(lock).await?;
    if !locked {
        return Ok(false);
    }
    // Another replica may have built it since the layout was read.
    let is_missing = "SELECT EXISTS (SELECT FROM event_partitions WHERE number = $1 AND filter IS NULL)";
    let (is_missing,): (bool,) = lease.fetch_one(sqlx::query_as(is_missing).bind(number)).await?;
    if is_missing {
        lease.begin_long(STATEMENT_DEADLINE).await?;
        build(lease, *number).await?;
        lease.end_long().await?;
    }
    lease.execute(sqlx::query("SELECT pg_advisory_unlock($1)").bind(lock_id(schema, LOCK))).await?;
    Ok(true)
}

/// Forgets damaged filters, so that they are built again.
async fn forget(lease: &mut Lease, damaged: &[FilterName]) -> Result<(), StoreError> {
    for FilterName { partition, id } in damaged {
        let forget = sqlx::query(
            "WITH forgotten AS ( \
                 UPDATE event_partitions SET filter = NULL, filter_keys = NULL \
                 WHERE number = $1 AND filter = $2::text::uuid RETURNING 1), \
             gone AS (DELETE FROM event_filters WHERE filter = $2::text::uuid) \
             UPDATE event_layout SET version = gen_random_uuid() WHERE EXISTS (SELECT FROM forgotten)",
        );
        lease.execute(forget.bind(partition).bind(id)).await?;
    }
    Ok(())
}

/// Builds a filter and stores it segment by segment, so that one of many keys needs no more memory than one of few.
async fn build(lease: &mut Lease, number: i32) -> Result<(), StoreError> {
    // What a process that was killed has left.
    let unfinished =
        "DELETE FROM event_filters AS f WHERE NOT EXISTS (SELECT FROM event_partitions AS p WHERE p.filter = f.filter)";
    lease.execute(sqlx::query(unfinished)).await?;
    let table = table(number);
    let count = AssertSqlSafe(format!("SELECT count(*), gen_random_uuid()::text FROM {table}"));
    let (keys, id): (i64, String) = lease.fetch_one(sqlx::query_as(count)).await?;
    let bits = segment_bits(keys.cast_unsigned());
    let name = FilterName { partition: number, id };
    for segment in 0..1 << bits {
        let keys = read(lease, &table, segment, bits).await?;
        let salt = salt(&name, segment);
        let built = tokio::task::spawn_blocking(move || Segment::build(&keys, salt)).await;
        let built = built.map_err(|error| StoreError::Failed(error.to_string()))?.map_err(StoreError::Failed)?;
        let insert =
            sqlx::query("INSERT INTO event_filters (filter, segment, content) VALUES ($1::text::uuid, $2, $3)");
        let insert = insert.bind(&name.id).bind(segment as i32).bind(built.encode(&name, segment, bits));
        lease.execute(insert).await?;
    }
    let finish = sqlx::query(
        "WITH finished AS ( \
             UPDATE event_partitions SET filter = $2::text::uuid, filter_keys = $3 \
             WHERE number = $1 AND filter IS NULL AND closed_at IS NOT NULL RETURNING 1) \
         UPDATE event_layout SET version = gen_random_uuid() WHERE EXISTS (SELECT FROM finished)",
    );
    lease.execute(finish.bind(name.partition).bind(&name.id).bind(keys)).await?;
    tracing::info!(partition = name.partition, keys, "the filter of a partition of events was built");
    Ok(())
}

/// Returns a number that nobody knows before the filter is built.
fn salt(FilterName { id, .. }: &FilterName, segment: u32) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sluice_event::key::hash128(format!("{id} {segment}").as_bytes());
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Reads the keys of a segment from the index of the partition.
async fn read(lease: &mut Lease, table: &str, segment: u32, bits: u32) -> Result<Vec<EventKey>, StoreError> {
    let end = if segment + 1 == 1 << bits { String::new() } else { " AND key < $2".to_owned() };
    let text = AssertSqlSafe(format!("SELECT key FROM {table} WHERE key >= $1{end}"));
    let mut select = sqlx::query_scalar::<_, EventKey>(text).persistent(false).bind(first_key(segment, bits));
    if !end.is_empty() {
        select = select.bind(first_key(segment + 1, bits));
    }
    let deadline = lease.deadline();
    let keys = within(deadline, select.fetch(&mut **lease).try_collect()).await;
    lease.converted(keys)
}
