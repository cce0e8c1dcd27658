//! Closes the open partition, once it is large or old enough, and opens the next one.

use std::time::Duration;

use sluice_event::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::errors::of_statement;
use super::super::writer::{Writer, end};
use super::layout::{NEW_VERSION, table};
use crate::StoreError;
use crate::retention_clock::micros;

/// Partitions into which the time is divided for which events are retained: more of them free the disk sooner.
const PARTITIONS: u32 = 8;

/// When the open partition is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of keys with which it is closed.
    pub keys: u64,
    /// How long events are retained: a partition spans at most an eighth of that.
    pub retention: Option<Duration>,
}

/// Closes the open partition if it has reached a limit. Returns whether it was closed.
pub(crate) async fn close(writer: &mut Writer, limits: Limits) -> Result<bool, StoreError> {
    let last_seq = writer.begin().await?;
    let closed = close_if_due(writer.current().await?, last_seq, limits).await.map_err(of_statement);
    end(writer, &closed).await?;
    closed
}

/// A partition that has no keys is not closed by its age: an idle system needs no new ones.
async fn close_if_due(
    connection: &mut SqliteConnection,
    last_seq: i64,
    Limits { keys, retention }: Limits,
) -> Result<bool, sqlx::Error> {
    let due = sqlx::query_scalar::<_, i32>(
        "SELECT number FROM key_partitions \
         WHERE last_seq IS NULL AND (keys >= ? OR keys > 0 AND opened_at <= ?) \
           AND (SELECT copied_seq IS NULL FROM key_layout)",
    );
    let opened_before = retention.map(|retention| Timestamp::now().as_micros() - micros(retention / PARTITIONS));
    let due = due.bind(keys.cast_signed()).bind(opened_before).fetch_optional(&mut *connection).await?;
    let Some(number) = due else { return Ok(false) };
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
