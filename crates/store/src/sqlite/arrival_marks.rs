//! Marks of arrival: which event was the last one at which time. [`crate::retention_clock`] says what for.
//! The `received_at` of the rows is by the same clock, but it stays as it is when the clock turns out to be wrong.

use std::time::Duration;

use sluice_event::Timestamp;
use sqlx::SqliteConnection;

use crate::StoreError;
use crate::retention_clock::{self, KEPT_BEYOND, MARK_EVERY, Observation, RetentionClock, micros};

use super::errors::of_statement;

/// Up to where events are older than the retention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The last event.
    pub seq: i64,
    /// What the clock said, in µs since 1970, when this was the last event.
    pub noted_at: i64,
}

/// Adds a mark, in a transaction whose last `seq` before it is `last_seq`. Returns the mark up to which events are
/// older than the retention, if there is one.
pub(super) async fn update(
    connection: &mut SqliteConnection,
    last_seq: i64,
    clock: &RetentionClock,
    retention: Option<Duration>,
) -> Result<Option<Mark>, StoreError> {
    let now = Timestamp::now().as_micros();
    let observation = add(connection, last_seq, now, clock, retention).await.map_err(of_statement)?;
    retention_clock::log(observation);
    match retention.filter(|_| observation != Observation::Unobserved) {
        Some(retention) => newest_until(connection, now.saturating_sub(micros(retention))).await.map_err(of_statement),
        None => Ok(None),
    }
}

/// Adds a mark if the newest one is not too young, after moving all of them if the clock was set.
async fn add(
    connection: &mut SqliteConnection,
    last_seq: i64,
    now: i64,
    clock: &RetentionClock,
    retention: Option<Duration>,
) -> Result<Observation, sqlx::Error> {
    let newest = sqlx::query_scalar("SELECT max(counts_from) FROM arrival_marks");
    let newest: Option<i64> = newest.fetch_one(&mut *connection).await?;
    let mut since_newest = newest.map(|newest| now - newest);
    let observation = clock.observe(since_newest, retention);
    if let Observation::Jumped(by) = observation {
        let shift = sqlx::query("UPDATE arrival_marks SET counts_from = counts_from + ?").bind(by);
        shift.execute(&mut *connection).await?;
        since_newest = since_newest.map(|since| since - by);
    }
    if since_newest.is_none_or(|since| since >= micros(MARK_EVERY)) {
        let insert = sqlx::query("INSERT INTO arrival_marks (seq, noted_at, counts_from) VALUES (?1, ?2, ?2)");
        insert.bind(last_seq).bind(now).execute(&mut *connection).await?;
        thin_out(connection, now).await?;
    }
    Ok(observation)
}

/// Keeps one mark an hour of those that are older than a day: the first one, because its age is counted from the
/// earliest time.
async fn thin_out(connection: &mut SqliteConnection, now: i64) -> Result<(), sqlx::Error> {
    let delete = sqlx::query(
        "DELETE FROM arrival_marks WHERE counts_from < ?1 AND rowid NOT IN ( \
             SELECT min(rowid) FROM arrival_marks WHERE counts_from < ?1 GROUP BY counts_from / 3600000000)",
    );
    delete.bind(now.saturating_sub(micros(Duration::from_secs(24 * 3_600)))).execute(connection).await.map(|_| ())
}

/// Returns the newest mark from this time or before, and deletes those before it that are far older.
async fn newest_until(connection: &mut SqliteConnection, time: i64) -> Result<Option<Mark>, sqlx::Error> {
    let select = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT rowid, seq, noted_at FROM arrival_marks WHERE counts_from <= ? \
         ORDER BY counts_from DESC, rowid DESC LIMIT 1",
    );
    let Some((row, seq, noted_at)) = select.bind(time).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let delete = sqlx::query("DELETE FROM arrival_marks WHERE rowid < ? AND counts_from < ?");
    delete.bind(row).bind(time.saturating_sub(micros(KEPT_BEYOND))).execute(connection).await?;
    Ok(Some(Mark { seq, noted_at }))
}

/// Returns how many microseconds ago the oldest event was the last one; `None` if there is none, or no mark tells it.
pub(super) async fn age_of_oldest(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    let select = "SELECT min(counts_from) FROM arrival_marks WHERE seq >= (SELECT min(seq) FROM events)";
    let since: Option<i64> = sqlx::query_scalar(select).fetch_one(connection).await?;
    Ok(since.map(|since| Timestamp::now().as_micros().saturating_sub(since)))
}
