//! The SQL statements.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::{Append, Appended, Delivered, KeyedRequest, LogError, Position};

/// Returns the current time in milliseconds since 1970.
pub(super) fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Appends an entry. If a request reuses a key with another body, nothing is written.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    append: &Append,
    millis: u64,
    ttl: Duration,
) -> Result<Appended, LogError> {
    let mut reused = Vec::new();
    for (index, request) in append.keyed.iter().enumerate() {
        let earlier = append.keyed[..index].iter().find(|earlier| earlier.key == request.key);
        let recorded = match earlier {
            Some(earlier) => Some(earlier.body_hash.as_bytes().to_vec()),
            None => {
                sqlx::query_scalar("SELECT body_hash FROM keys WHERE key = ? AND expires > ?")
                    .bind(request.key.as_bytes().as_slice())
                    .bind(now_millis() as i64)
                    .fetch_optional(&mut *connection)
                    .await?
            }
        };
        if recorded.is_some_and(|recorded: Vec<u8>| recorded != request.body_hash.as_bytes()) {
            reused.push(index);
        }
    }
    if !reused.is_empty() {
        return Ok(Appended::KeyReused(reused));
    }
    let expires = now_millis() + ttl.as_millis().max(1) as u64;
    for request in &append.keyed {
        sqlx::query(
            "INSERT INTO keys (key, body_hash, expires) VALUES (?, ?, ?)
             ON CONFLICT (key) DO UPDATE SET body_hash = excluded.body_hash, expires = excluded.expires",
        )
        .bind(request.key.as_bytes().as_slice())
        .bind(request.body_hash.as_bytes().as_slice())
        .bind(expires as i64)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query("INSERT INTO entries (millis, events, body) VALUES (?, ?, ?)")
        .bind(millis as i64)
        .bind(append.entry.events as i64)
        .bind(append.entry.body.as_slice())
        .execute(&mut *connection)
        .await?;
    let backlog: i64 =
        sqlx::query_scalar("UPDATE counts SET appended = appended + ? RETURNING max(appended - acknowledged, 0)")
            .bind(append.entry.events as i64)
            .fetch_one(&mut *connection)
            .await?;
    Ok(Appended::Stored { backlog: Some(backlog as u64) })
}

/// Returns whether a request was appended under its key, which has not expired.
pub(super) async fn is_recorded(pool: &SqlitePool, request: KeyedRequest) -> Result<bool, LogError> {
    let select =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM keys WHERE key = ? AND body_hash = ? AND expires > ?)");
    let select = select.bind(request.key.as_bytes().as_slice()).bind(request.body_hash.as_bytes().as_slice());
    Ok(select.bind(now_millis() as i64).fetch_one(pool).await?)
}

/// Removes acknowledged entries and counts their events; returns the number of removed entries.
pub(super) async fn acknowledge(
    connection: &mut SqliteConnection,
    done: impl Iterator<Item = (Position, u64)>,
) -> Result<u64, LogError> {
    let (mut entries, mut events) = (0, 0);
    for (position, of_entry) in done {
        let deleted = sqlx::query("DELETE FROM entries WHERE sequence = ? AND millis = ?")
            .bind(position.sequence as i64)
            .bind(position.millis as i64)
            .execute(&mut *connection)
            .await?;
        if deleted.rows_affected() > 0 {
            entries += 1;
            events += of_entry;
        }
    }
    sqlx::query("UPDATE counts SET acknowledged = acknowledged + ?")
        .bind(events as i64)
        .execute(&mut *connection)
        .await?;
    Ok(entries)
}

/// Removes up to `max` expired keys; returns the number of removed keys.
pub(super) async fn forget_expired_keys(connection: &mut SqliteConnection, max: u32) -> Result<u64, LogError> {
    let deleted = sqlx::query("DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires <= ? LIMIT ?)")
        .bind(now_millis() as i64)
        .bind(max)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected())
}

/// Returns the time of the newest entry in milliseconds since 1970; 0 when there is none.
pub(super) async fn youngest_millis(pool: &SqlitePool) -> Result<u64, LogError> {
    let sql = "SELECT millis FROM entries ORDER BY sequence DESC LIMIT 1";
    let millis: Option<i64> = sqlx::query_scalar(sql).fetch_optional(pool).await?;
    Ok(millis.unwrap_or(0) as u64)
}

/// Returns up to `max` entries after `sequence`, in order.
pub(super) async fn read_after(pool: &SqlitePool, sequence: u64, max: usize) -> Result<Vec<Delivered>, LogError> {
    let sql = "SELECT sequence, millis, events, body FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?";
    let rows = sqlx::query(sql).bind(sequence as i64).bind(max as i64).fetch_all(pool).await?;
    rows.iter().map(delivered).collect()
}

/// Returns the entry at a position.
pub(super) async fn read_one(pool: &SqlitePool, position: Position) -> Result<Option<Delivered>, LogError> {
    let sql = "SELECT sequence, millis, events, body FROM entries WHERE sequence = ?";
    let row = sqlx::query(sql).bind(position.sequence as i64).fetch_optional(pool).await?;
    row.as_ref().map(delivered).transpose()
}

/// Returns the number of events appended and not acknowledged.
pub(super) async fn outstanding(pool: &SqlitePool) -> Result<u64, LogError> {
    let sql = "SELECT max(appended - acknowledged, 0) FROM counts";
    let events: i64 = sqlx::query_scalar(sql).fetch_one(pool).await?;
    Ok(events as u64)
}

/// Returns the number of entries after `sequence`, and the age of the oldest entry of all.
pub(super) async fn undelivered(pool: &SqlitePool, sequence: u64) -> Result<(u64, Option<Duration>), LogError> {
    let sql = "SELECT (SELECT count(*) FROM entries WHERE sequence > ?),
                      (SELECT millis FROM entries ORDER BY sequence LIMIT 1)";
    let (entries, oldest): (i64, Option<i64>) = sqlx::query_as(sql).bind(sequence as i64).fetch_one(pool).await?;
    let age = oldest.map(|millis| Duration::from_millis(now_millis().saturating_sub(millis as u64)));
    Ok((entries as u64, age))
}

/// Returns the number of bytes in use in the file, without free pages.
pub(super) async fn used_bytes(pool: &SqlitePool) -> Result<u64, LogError> {
    let sql = "SELECT (page_count - freelist_count) * page_size
               FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let bytes: i64 = sqlx::query_scalar(sql).fetch_one(pool).await?;
    Ok(bytes as u64)
}

fn delivered(row: &SqliteRow) -> Result<Delivered, LogError> {
    let (sequence, millis, events): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let body: Vec<u8> = row.try_get(3)?;
    let position = Position { stream: 0, millis: millis as u64, sequence: sequence as u64 };
    Ok(Delivered { position, body: body.into(), events: events as u64 })
}
