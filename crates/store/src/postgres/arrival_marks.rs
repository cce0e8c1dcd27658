//! Marks of arrival: which batch was the last one at which time. [`crate::retention_clock`] says what for.
//!
//! The number of a batch is taken when its transaction begins, so this is the time that the age of its events is
//! counted from. `received_at` would be the publisher's clock, which may be wrong by any time.

use std::time::Duration;

use sluice_event::Timestamp;
use sqlx::{Connection, PgConnection};

use super::connections::Lease;
use super::errors::within;
use super::locks::lock_id;
use super::timestamptz::Timestamptz;
use crate::StoreError;
use crate::retention_clock::{self, KEPT_BEYOND, MARK_EVERY, Observation, RetentionClock, micros};

/// Up to where events are older than the retention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The last batch.
    pub batch: i64,
    /// What the clock said when this was the last batch.
    pub noted_at: Timestamp,
}

/// Lets one replica at a time remove rows, until its transaction ends. Returns whether it is this one.
pub(super) async fn try_lock(connection: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    let lock = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(lock_id(schema, "maintain"));
    lock.fetch_one(connection).await
}

/// Adds a mark, unless another replica is removing rows at this time. Returns the mark up to which events are older
/// than the retention, if there is one.
pub(super) async fn update(
    lease: &mut Lease,
    schema: &str,
    clock: &RetentionClock,
    retention: Option<Duration>,
) -> Result<Option<Mark>, StoreError> {
    let deadline = lease.deadline();
    let work = async {
        let mut transaction = lease.begin().await?;
        if !try_lock(&mut transaction, schema).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let observation = add(&mut transaction, clock, retention).await?;
        let mark = match retention.filter(|_| observation != Observation::Unobserved) {
            Some(retention) => newest_older_than(&mut transaction, retention).await?,
            None => None,
        };
        transaction.commit().await?;
        clock.observed();
        retention_clock::log(observation);
        Ok(mark)
    };
    let mark = within(deadline, work).await;
    lease.converted(mark)
}

/// Adds a mark if the newest one is not too young, after moving all of them if the clock was set.
async fn add(
    connection: &mut PgConnection,
    clock: &RetentionClock,
    retention: Option<Duration>,
) -> Result<Observation, sqlx::Error> {
    let (batch, Timestamptz(now), newest) = sqlx::query_as::<_, (i64, Timestamptz, Option<Timestamptz>)>(
        "SELECT last_batch(), clock_timestamp(), (SELECT max(counts_from) FROM arrival_marks)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut since_newest = newest.map(|Timestamptz(newest)| now.as_micros() - newest.as_micros());
    let observation = clock.observe(since_newest, retention);
    if let Observation::Jumped(by) = observation {
        let shift = "UPDATE arrival_marks SET counts_from = counts_from + $1 * interval '1 microsecond'";
        sqlx::query(shift).bind(by).execute(&mut *connection).await?;
        since_newest = since_newest.map(|since| since - by);
    }
    if since_newest.is_none_or(|since| since >= micros(MARK_EVERY)) {
        let insert = sqlx::query("INSERT INTO arrival_marks (batch, noted_at, counts_from) VALUES ($1, $2, $2)");
        insert.bind(batch).bind(Timestamptz(now)).execute(&mut *connection).await?;
        thin_out(connection).await?;
    }
    Ok(observation)
}

/// Keeps one mark an hour of those that are older than a day: the first one, because its age is counted from the
/// earliest time.
async fn thin_out(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let delete = sqlx::query(
        "DELETE FROM arrival_marks WHERE id IN ( \
             SELECT id FROM ( \
                 SELECT id, row_number() OVER (PARTITION BY date_trunc('hour', counts_from) ORDER BY counts_from, id) \
                 FROM arrival_marks WHERE counts_from < clock_timestamp() - interval '1 day') AS hours (id, number) \
             WHERE number > 1)",
    );
    delete.execute(connection).await.map(|_| ())
}

/// Returns the newest mark that is older than the retention, and deletes those before it that are far older.
async fn newest_older_than(connection: &mut PgConnection, age: Duration) -> Result<Option<Mark>, sqlx::Error> {
    let select = sqlx::query_as::<_, (i64, i64, Timestamptz)>(
        "SELECT id, batch, noted_at FROM arrival_marks \
         WHERE counts_from <= clock_timestamp() - $1 * interval '1 microsecond' \
         ORDER BY counts_from DESC, id DESC LIMIT 1",
    );
    let Some((id, batch, Timestamptz(noted_at))) = select.bind(micros(age)).fetch_optional(&mut *connection).await?
    else {
        return Ok(None);
    };
    let delete = sqlx::query(
        "DELETE FROM arrival_marks \
         WHERE id < $1 AND counts_from < clock_timestamp() - $2 * interval '1 microsecond'",
    );
    delete.bind(id).bind(micros(age.saturating_add(KEPT_BEYOND))).execute(connection).await?;
    Ok(Some(Mark { batch, noted_at }))
}

/// Returns how many microseconds ago a batch was the last one, or an earlier one; `None` if no mark tells it.
pub(super) async fn age_of(lease: &mut Lease, batch: i64) -> Result<Option<i64>, StoreError> {
    let select = sqlx::query_as(
        "SELECT (extract(epoch FROM clock_timestamp() - min(counts_from)) * 1000000)::int8 \
         FROM arrival_marks WHERE batch >= $1",
    );
    let (age,) = lease.fetch_one(select.bind(batch)).await?;
    Ok(age)
}
