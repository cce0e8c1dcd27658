//! What the API asks.

use sluice_event::{DedupField, Keyer, RequestId, Timestamp};
use sluice_log::Position;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

use super::connections::Lease;
use super::errors::{of_statement, within};
use super::timestamptz::Timestamptz;
use crate::page::Filling;
use crate::{Counts, DeadLetter, EventQuery, NewDeadLetter, Page, Statistics, StoreError, StoredEvent};

macro_rules! events {
    ($rest:literal) => {
        concat!(
            "SELECT seq, topic, event_id, ts, source, payload::text AS payload, received_at, request_id FROM events ",
            $rest
        )
    };
}

/// A page of events.
pub(super) async fn events(lease: &mut Lease, query: &EventQuery) -> Result<Page, StoreError> {
    let mut filling = Filling::new(query);
    while let Some(query) = filling.ask() {
        filling.take(some_events(lease, &query).await?, query.limit);
    }
    Ok(filling.page())
}

/// Along `seq`, or along `(topic, seq)`; the other filters look at each row on the strategy. One more
/// than the limit, where there is one.
async fn some_events(lease: &mut Lease, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
    // Two texts, because a plan for "any topic or this one" would use neither index.
    let text = match query.topic {
        None => events!(
            "WHERE seq < $1 AND ($2::text IS NULL OR source = $2) AND ($3::timestamptz IS NULL OR ts >= $3) \
             AND ($4::timestamptz IS NULL OR ts < $4) ORDER BY seq DESC LIMIT $5"
        ),
        Some(_) => events!(
            "WHERE seq < $1 AND ($2::text IS NULL OR source = $2) AND ($3::timestamptz IS NULL OR ts >= $3) \
             AND ($4::timestamptz IS NULL OR ts < $4) AND topic = $6 ORDER BY seq DESC LIMIT $5"
        ),
    };
    let mut select = sqlx::query_as::<_, EventRow>(text)
        .bind(query.before.unwrap_or(i64::MAX))
        .bind(query.source.as_deref())
        .bind(query.since.map(Timestamptz))
        .bind(query.until.map(Timestamptz))
        .bind(i64::from(query.limit) + 1);
    if let Some(topic) = &query.topic {
        select = select.bind(topic);
    }
    let rows = within(lease.deadline(), select.fetch_all(&mut **lease)).await.map_err(of_statement)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// By key where topic and id tell it; else by the index that the schema then has.
pub(super) async fn event(
    lease: &mut Lease,
    keyer: &Keyer,
    topic: &str,
    event_id: &str,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let key = (!keyer.fields().contains(&DedupField::Source)).then(|| keyer.key_of(topic, event_id, None));
    let text = match key {
        // Of events that share a key only the first is stored, and it may be another one.
        Some(_) => events!("WHERE key = $4 AND topic = $1 AND event_id = $2 LIMIT $3"),
        None => events!("WHERE topic = $1 AND event_id = $2 ORDER BY seq LIMIT $3"),
    };
    let mut select = sqlx::query_as::<_, EventRow>(text).bind(topic).bind(event_id).bind(i64::from(limit));
    if let Some(key) = key {
        select = select.bind(key);
    }
    let rows = within(lease.deadline(), select.fetch_all(&mut **lease)).await.map_err(of_statement)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// One statement, so one snapshot.
pub(super) async fn statistics(lease: &mut Lease) -> Result<Statistics, StoreError> {
    let select = sqlx::query(
        "SELECT topic, sum(received)::int8, sum(unique_processed)::int8, sum(duplicate_dropped)::int8, \
                sum(conflicts)::int8, NULL::int8, NULL::int8 \
         FROM counters GROUP BY topic \
         UNION ALL \
         SELECT NULL, NULL, NULL, NULL, NULL, \
                (SELECT coalesce(sum(events), 0)::int8 FROM dead_letters), \
                (SELECT value::int8 FROM settings WHERE name = 'dedup_horizon')",
    );
    let rows = within(lease.deadline(), select.fetch_all(&mut **lease)).await.map_err(of_statement)?;
    let mut statistics = Statistics::default();
    for row in &rows {
        add(&mut statistics, row).map_err(of_statement)?;
    }
    Ok(statistics)
}

fn add(statistics: &mut Statistics, row: &PgRow) -> Result<(), sqlx::Error> {
    let Some(topic) = row.try_get::<Option<String>, _>(0)? else {
        statistics.dead_lettered = number(row, 5)?;
        statistics.dedup_horizon = row.try_get::<Option<i64>, _>(6)?.and_then(Timestamp::from_micros);
        return Ok(());
    };
    let counts = Counts {
        received: number(row, 1)?,
        unique: number(row, 2)?,
        duplicates: number(row, 3)?,
        conflicts: number(row, 4)?,
    };
    statistics.topics.insert(topic, counts);
    Ok(())
}

fn number(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(i64::cast_unsigned)
}

macro_rules! dead_letter_columns {
    () => {
        "id, failed_at, stream, millis, sequence, topic, event_id, events, code, reason, body"
    };
}

/// Newest first.
pub(super) async fn dead_letters(
    lease: &mut Lease,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let text = concat!("SELECT ", dead_letter_columns!(), " FROM dead_letters WHERE id < $1 ORDER BY id DESC LIMIT $2");
    let select = sqlx::query_as::<_, LetterRow>(text).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows = within(lease.deadline(), select.fetch_all(&mut **lease)).await.map_err(of_statement)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Deleting locks it against a second replay, which then finds it gone.
pub(super) async fn take_dead_letter(lease: &mut Lease, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let text = concat!("DELETE FROM dead_letters WHERE id = $1 RETURNING ", dead_letter_columns!());
    let delete = sqlx::query_as::<_, LetterRow>(text).bind(id);
    let row = within(lease.deadline(), delete.fetch_optional(&mut **lease)).await.map_err(of_statement)?;
    Ok(row.map(|row| row.0))
}

struct EventRow(StoredEvent);

impl<'r> FromRow<'r, PgRow> for EventRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self(StoredEvent {
            seq: row.try_get("seq")?,
            topic: row.try_get("topic")?,
            event_id: row.try_get("event_id")?,
            timestamp: row.try_get::<Timestamptz, _>("ts")?.0,
            source: row.try_get("source")?,
            payload: row.try_get("payload")?,
            received_at: row.try_get::<Timestamptz, _>("received_at")?.0,
            request_id: row.try_get::<RequestId, _>("request_id")?,
        }))
    }
}

struct LetterRow(DeadLetter);

impl<'r> FromRow<'r, PgRow> for LetterRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let topic: Option<String> = row.try_get("topic")?;
        let event_id: Option<String> = row.try_get("event_id")?;
        let position = Position {
            stream: u16::try_from(row.try_get::<i32, _>("stream")?).unwrap_or(u16::MAX),
            millis: row.try_get::<i64, _>("millis")?.cast_unsigned(),
            sequence: row.try_get::<i64, _>("sequence")?.cast_unsigned(),
        };
        let letter = NewDeadLetter {
            position,
            event: topic.zip(event_id),
            events: row.try_get::<i64, _>("events")?.cast_unsigned(),
            code: row.try_get("code")?,
            reason: row.try_get("reason")?,
            body: row.try_get("body")?,
        };
        Ok(Self(DeadLetter {
            id: row.try_get("id")?,
            failed_at: row.try_get::<Timestamptz, _>("failed_at")?.0,
            letter,
        }))
    }
}
