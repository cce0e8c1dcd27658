//! Closes the open partition, and opens the next one.

use sluice_event::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::layout::{NEW_VERSION, table};
use crate::partitions::OpenPartition;

/// Returns the open partition; `None` while keys of an older version's file are copied, which closes partitions itself.
pub(crate) async fn open_partition(connection: &mut SqliteConnection) -> Result<Option<OpenPartition>, sqlx::Error> {
    let select = sqlx::query_as::<_, (i32, i64, i64)>(
        "SELECT number, keys, opened_at FROM key_partitions \
         WHERE last_seq IS NULL AND (SELECT copied_seq IS NULL FROM key_layout)",
    );
    let open = select.fetch_optional(connection).await?;
    Ok(open.map(|(number, events, opened_at)| {
        let age = Timestamp::now().as_micros().saturating_sub(opened_at);
        OpenPartition { number, events, batches: 0, age }
    }))
}

/// Closes a partition, if it is the open one, and opens the next one. Returns whether it was closed.
pub(crate) async fn close(connection: &mut SqliteConnection, number: i32, last_seq: i64) -> Result<bool, sqlx::Error> {
    let is_open = "SELECT EXISTS (SELECT 1 FROM key_partitions WHERE number = ? AND last_seq IS NULL)";
    if !sqlx::query_scalar(is_open).bind(number).fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    open_next(connection, number, last_seq).await?;
    Ok(true)
}

/// Closes a partition after this event, and opens the next one.
pub(crate) async fn open_next(
    connection: &mut SqliteConnection,
    number: i32,
    last_seq: i64,
) -> Result<(), sqlx::Error> {
    let next = number + 1;
    let close = sqlx::query("UPDATE key_partitions SET last_seq = ? WHERE number = ?").bind(last_seq).bind(number);
    close.execute(&mut *connection).await?;
    let open = sqlx::query("INSERT INTO key_partitions (number, opened_at, after_seq, keys) VALUES (?, ?, ?, 0)");
    open.bind(next).bind(Timestamp::now().as_micros()).bind(last_seq).execute(&mut *connection).await?;
    let sql = format!(
        "CREATE TABLE {} (key BLOB PRIMARY KEY, payload_hash BLOB NOT NULL, seq INTEGER NOT NULL) \
         STRICT, WITHOUT ROWID; {NEW_VERSION}",
        table(next)
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}
