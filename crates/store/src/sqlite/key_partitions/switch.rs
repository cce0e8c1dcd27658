//! Puts the keys of a file that an older version made into partitions.
//!
//! That version has a unique index on the keys of all events. It goes on to decide what is a duplicate while the keys
//! are copied, in the order of arrival and some thousands in a transaction, so batches are stored in between. When
//! those of all events are copied, the index is dropped in the transaction that copies the last ones. A process that is
//! killed goes on where it was.
//!
//! Until then the older version can be started again. From then on it could store nothing, because it relies on the
//! index. It refuses to start: the record of the dedup fields, which it compares with its settings, says why.

use std::time::Duration;

use sluice_event::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::errors::of_statement;
use super::super::writer::{Writer, end};
use super::close::open_next;
use super::layout::{NEW_VERSION, table};
use crate::StoreError;
use crate::partitions::Limits;
use crate::retention_clock::micros;

/// Keys that are copied in one transaction: more than a batch has by default, so that copying does not fall behind.
const CHUNK: i64 = 50_000;
/// How long the older version can be started again.
const ROLLBACK_TIME: Duration = Duration::from_secs(15 * 60);
/// What follows the dedup fields in their record, for older versions.
pub(crate) const MARK: &str = " by a version that keeps keys in partitions, as older ones cannot";

/// Returns whether the keys of all events lie in partitions.
pub(crate) async fn is_switched(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT copied_seq IS NULL FROM key_layout").fetch_one(connection).await
}

/// Switches a file without events at once: a new one. Called in a transaction.
pub(crate) async fn finish_if_empty(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let is_due = "SELECT copied_seq IS NOT NULL AND NOT EXISTS (SELECT 1 FROM events) FROM key_layout";
    if sqlx::query_scalar(is_due).fetch_one(&mut *connection).await? { finish(connection).await } else { Ok(()) }
}

/// Copies the next keys. Drops the index with the last ones, if it is time. Returns whether there are more keys to
/// copy.
pub(crate) async fn step(writer: &mut Writer, limits: Limits) -> Result<bool, StoreError> {
    let last_seq = writer.begin().await?;
    let done = attempt(writer.current().await?, last_seq, limits).await.map_err(of_statement);
    end(writer, &done).await?;
    done
}

async fn attempt(connection: &mut SqliteConnection, last_seq: i64, limits: Limits) -> Result<bool, sqlx::Error> {
    let select = sqlx::query_as::<_, (Option<i64>, i64)>("SELECT copied_seq, migrated_at FROM key_layout");
    let (Some(copied), migrated_at) = select.fetch_one(&mut *connection).await? else { return Ok(false) };
    if copied < last_seq && copy(&mut *connection, copied, last_seq, limits).await? < last_seq {
        return Ok(true);
    }
    if migrated_at <= Timestamp::now().as_micros() - micros(ROLLBACK_TIME) {
        finish(connection).await?;
        tracing::info!("the keys of all events lie in partitions from now on");
    }
    Ok(false)
}

/// Copies the keys of the events after this one, as many as belong into a transaction. Returns the last of these
/// events.
async fn copy(
    connection: &mut SqliteConnection,
    copied: i64,
    last_seq: i64,
    limits: Limits,
) -> Result<i64, sqlx::Error> {
    let until = "SELECT coalesce((SELECT seq FROM events WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?), ?)";
    let until: i64 =
        sqlx::query_scalar(until).bind(copied).bind(CHUNK - 1).bind(last_seq).fetch_one(&mut *connection).await?;
    let open = "SELECT number, keys FROM key_partitions WHERE last_seq IS NULL";
    let (number, keys): (i32, i64) = sqlx::query_as(open).fetch_one(&mut *connection).await?;
    let text = format!(
        "INSERT OR FAIL INTO {} (key, payload_hash, seq) \
         SELECT key, payload_hash, seq FROM events WHERE seq > ? AND seq <= ? \
         ON CONFLICT (key) DO UPDATE SET payload_hash = excluded.payload_hash, seq = excluded.seq",
        table(number)
    );
    let insert = sqlx::query(AssertSqlSafe(text)).persistent(false).bind(copied).bind(until);
    let inserted = insert.execute(&mut *connection).await?.rows_affected();
    let update = sqlx::query("UPDATE key_partitions SET keys = keys + ? WHERE number = ?");
    update.bind(inserted.cast_signed()).bind(number).execute(&mut *connection).await?;
    let note = sqlx::query("UPDATE key_layout SET copied_seq = ?").bind(until);
    note.execute(&mut *connection).await?;
    if keys + inserted.cast_signed() >= limits.rows.cast_signed() {
        open_next(&mut *connection, number, until).await?;
        tracing::info!(copied_seq = until, last_seq, "keys of stored events are copied into partitions");
    }
    Ok(until)
}

/// Drops the index of all keys, after all of them were copied.
async fn finish(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let sql = format!("DROP INDEX events_key; UPDATE key_layout SET copied_seq = NULL; {NEW_VERSION}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    let mark = sqlx::query("UPDATE settings SET value = value || ? WHERE name = 'dedup_fields'").bind(MARK);
    mark.execute(connection).await.map(|_| ())
}
