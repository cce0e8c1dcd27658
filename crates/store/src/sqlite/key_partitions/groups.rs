//! The statements by which the filters of groups are built ([`crate::partitions`] says in which order).

use sqlx::SqliteConnection;

use super::build;
use super::layout::NEW_VERSION;
use crate::partitions::{FilterName, Group, NewGroup, Unfinished};

/// Returns the group whose filter was begun and is not complete, the oldest one if there are several.
pub(crate) async fn unfinished(connection: &mut SqliteConnection) -> Result<Option<Unfinished>, sqlx::Error> {
    let select = sqlx::query_as::<_, (i32, i32, u32, String, i64, u32)>(
        "SELECT first_partition, last_partition, level, filter, keys, segments FROM key_filter_groups \
         WHERE NOT is_complete ORDER BY first_partition LIMIT 1",
    );
    let unfinished = select.fetch_optional(connection).await?;
    Ok(unfinished.map(|(first, last, level, id, keys, segments)| {
        let filter = FilterName { partition: first, id };
        Unfinished { group: Group { first, last, level, filter, keys: keys.cast_unsigned() }, segments }
    }))
}

/// Begins the filter of a group, and gives it a random name.
pub(crate) async fn begin(connection: &mut SqliteConnection, group: &NewGroup) -> Result<Group, sqlx::Error> {
    let NewGroup { first, last, level, keys } = *group;
    let insert = sqlx::query_scalar(
        "INSERT INTO key_filter_groups (filter, level, first_partition, last_partition, keys) \
         VALUES (lower(hex(randomblob(16))), ?, ?, ?, ?) RETURNING filter",
    );
    let id = insert.bind(level).bind(first).bind(last).bind(keys.cast_signed()).fetch_one(connection).await?;
    Ok(Group { first, last, level, filter: FilterName { partition: first, id }, keys })
}

/// Stores the next segment, unless it is stored.
pub(crate) async fn add_segment(
    connection: &mut SqliteConnection,
    filter: &FilterName,
    number: u32,
    content: Vec<u8>,
) -> Result<(), sqlx::Error> {
    build::insert_segment(&mut *connection, filter, number, content).await?;
    let count = sqlx::query("UPDATE key_filter_groups SET segments = max(segments, ?) WHERE filter = ?");
    count.bind(number + 1).bind(&filter.id).execute(connection).await.map(|_| ())
}

/// Lists a group, instead of the smaller ones that have partitions of it. The oldest partition of a smaller one may have been
/// removed.
pub(crate) async fn finish(
    connection: &mut SqliteConnection,
    Group { first, last, filter: FilterName { id, .. }, .. }: &Group,
) -> Result<(), sqlx::Error> {
    let finish = sqlx::query("UPDATE key_filter_groups SET is_complete = 1 WHERE filter = ?").bind(id);
    if finish.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(());
    }
    let smaller = sqlx::query_scalar::<_, String>(
        "DELETE FROM key_filter_groups WHERE filter <> ? AND first_partition <= ? AND last_partition >= ? RETURNING filter",
    );
    for smaller in smaller.bind(id).bind(last).bind(first).fetch_all(&mut *connection).await? {
        sqlx::query("DELETE FROM key_filters WHERE filter = ?").bind(smaller).execute(&mut *connection).await?;
    }
    sqlx::raw_sql(NEW_VERSION).execute(connection).await.map(|_| ())
}
