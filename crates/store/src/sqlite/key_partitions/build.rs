//! The statements by which filters are built ([`crate::partitions`] says in which order), stored and loaded.

use sluice_event::EventKey;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::layout::{NEW_VERSION, table};
use crate::partitions::FilterName;

/// Returns whether a partition is listed and has no filter.
pub(crate) async fn has_no_filter(connection: &mut SqliteConnection, partition: i32) -> Result<bool, sqlx::Error> {
    let select = "SELECT EXISTS (SELECT 1 FROM key_partitions WHERE number = ? AND filter IS NULL)";
    sqlx::query_scalar(select).bind(partition).fetch_one(connection).await
}

/// Removes the segments that no filter of a partition or a group has.
pub(crate) async fn remove_unfinished(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let unfinished = "DELETE FROM key_filters \
                      WHERE filter NOT IN (SELECT filter FROM key_partitions WHERE filter IS NOT NULL) \
                        AND filter NOT IN (SELECT filter FROM key_filter_groups)";
    sqlx::query(unfinished).execute(connection).await.map(|_| ())
}

/// Returns a random name for the filter of a closed partition, and how many keys that has.
pub(crate) async fn name_filter(
    connection: &mut SqliteConnection,
    partition: i32,
) -> Result<(FilterName, u64), sqlx::Error> {
    let select = "SELECT lower(hex(randomblob(16))), keys FROM key_partitions WHERE number = ?";
    let select = sqlx::query_as::<_, (String, i64)>(select).bind(partition);
    let (id, keys) = select.fetch_one(connection).await?;
    Ok((FilterName { partition, id }, keys.cast_unsigned()))
}

/// Returns the keys of a partition from one on and, if there is one, before another.
pub(crate) async fn keys(
    connection: &mut SqliteConnection,
    partition: i32,
    from: EventKey,
    before: Option<EventKey>,
) -> Result<Vec<EventKey>, sqlx::Error> {
    let end = if before.is_some() { " AND key < ?2" } else { "" };
    let text = AssertSqlSafe(format!("SELECT key FROM {} WHERE key >= ?1{end}", table(partition)));
    let mut select = sqlx::query_scalar(text).persistent(false).bind(from);
    if before.is_some() {
        select = select.bind(before);
    }
    select.fetch_all(connection).await
}

/// Returns a stored segment of a filter.
pub(crate) async fn segment(
    connection: &mut SqliteConnection,
    FilterName { id, .. }: &FilterName,
    number: u32,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let select = sqlx::query_scalar("SELECT content FROM key_filters WHERE filter = ? AND segment = ?");
    select.bind(id).bind(number).fetch_optional(connection).await
}

/// Stores a segment, unless it is stored.
pub(crate) async fn insert_segment(
    connection: &mut SqliteConnection,
    FilterName { id, .. }: &FilterName,
    number: u32,
    content: Vec<u8>,
) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO key_filters (filter, segment, content) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(id).bind(number).bind(content).execute(connection).await.map(|_| ())
}

/// Gives a closed partition its filter, unless it has one or is not there any more.
pub(crate) async fn finish(
    connection: &mut SqliteConnection,
    FilterName { partition, id }: &FilterName,
) -> Result<(), sqlx::Error> {
    let finish = "UPDATE key_partitions SET filter = ? WHERE number = ? AND filter IS NULL AND last_seq IS NOT NULL";
    let finished = sqlx::query(finish).bind(id).bind(partition).execute(&mut *connection).await?;
    if finished.rows_affected() > 0 {
        sqlx::raw_sql(NEW_VERSION).execute(connection).await?;
    }
    Ok(())
}

/// Forgets the filter of a partition or a group, so that it is built again.
pub(crate) async fn forget(
    connection: &mut SqliteConnection,
    FilterName { id, .. }: &FilterName,
) -> Result<(), sqlx::Error> {
    for forget in [
        "UPDATE key_partitions SET filter = NULL WHERE filter = ?",
        "DELETE FROM key_filter_groups WHERE filter = ?",
        "DELETE FROM key_filters WHERE filter = ?",
    ] {
        sqlx::query(forget).bind(id).execute(&mut *connection).await?;
    }
    sqlx::raw_sql(NEW_VERSION).execute(connection).await.map(|_| ())
}
