//! The queries of the API.

use std::time::Instant;

use futures::TryStreamExt;
use sluice_event::{EventKey, Keyer, PayloadHash, RequestId, Timestamp};
use sluice_log::Position;
use sqlx::query::QueryAs;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Connection, FromRow, Row as _, Sqlite, SqliteConnection};

use super::errors::of_statement;
use super::key_partitions::{Layouts, seqs_of};
use super::merge::merge;
use crate::bounded::Merged;
use crate::damage::{ReadRow, RowCheck, alike_or_damaged, value_or};
use crate::page::{PageBuilder, Step};
use crate::partitions::Filters;
use crate::put_aside;
use crate::topics::json;
use crate::{Counts, DeadLetter, EventQuery, NewDeadLetter, Page, Statistics, StoreError, StoredEvent, TopicPage};

macro_rules! events {
    ($rest:literal) => {
        concat!(
            "SELECT seq, key, payload_hash, topic, event_id, ts, source, payload, received_at, request_id FROM events ",
            $rest
        )
    };
}

/// Returns a page of events.
pub(super) async fn events(
    reader: &mut SqliteConnection,
    keyer: &Keyer,
    query: &EventQuery,
) -> Result<Page, StoreError> {
    let mut page = PageBuilder::new(query);
    while let Some(step) = page.next_step() {
        let began = Instant::now();
        let from = if let Some(topics) = query.merged_topics() {
            let Merged { seqs, from } = merge(reader, query, &step, topics).await.map_err(of_statement)?;
            read(reader, keyer, query, select_numbers(query, step, &seqs), &mut page).await.map_err(of_statement)?;
            from
        } else {
            let from = match step.rows {
                Some(rows) => last_of(reader, query.topic.as_deref(), step.before, rows).await?,
                None => None,
            };
            read(reader, keyer, query, select_range(query, step, from), &mut page).await.map_err(of_statement)?;
            from
        };
        page.end_step(from, began.elapsed());
    }
    Ok(page.build())
}

/// Returns the `seq` of the last of so many rows, newest first; `None` if there are fewer.
async fn last_of(
    reader: &mut SqliteConnection,
    topic: Option<&str>,
    before: i64,
    rows: u32,
) -> Result<Option<i64>, StoreError> {
    let text = match topic {
        None => "SELECT seq FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
        Some(_) => "SELECT seq FROM events WHERE seq < ?1 AND topic = ?3 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
    };
    let mut select = sqlx::query_scalar(text).bind(before).bind(i64::from(rows) - 1);
    if let Some(topic) = topic {
        select = select.bind(topic);
    }
    select.fetch_optional(reader).await.map_err(of_statement)
}

type SelectEvents<'q> = QueryAs<'q, Sqlite, EventRow, SqliteArguments>;

/// Returns the query for the events of a step. The table in the order of `seq`, or the index on `(topic, seq)`, gives the
/// order; the other filters are applied to each row.
fn select_range<'q>(query: &'q EventQuery, step: Step, from: Option<i64>) -> SelectEvents<'q> {
    let text = match (&query.topic, query.patterns()) {
        (None, None) => events!(
            "WHERE seq < ?1 AND seq >= ?6 AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR ts >= ?3) \
             AND (?4 IS NULL OR ts < ?4) ORDER BY seq DESC LIMIT ?5"
        ),
        (Some(_), _) => events!(
            "WHERE seq < ?1 AND seq >= ?6 AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR ts >= ?3) \
             AND (?4 IS NULL OR ts < ?4) AND topic = ?7 ORDER BY seq DESC LIMIT ?5"
        ),
        (None, Some(_)) => events!(
            "WHERE seq < ?1 AND seq >= ?6 AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR ts >= ?3) \
             AND (?4 IS NULL OR ts < ?4) AND EXISTS (SELECT 1 FROM json_each(?7) WHERE topic GLOB value) \
             ORDER BY seq DESC LIMIT ?5"
        ),
    };
    let select = bind_filters(sqlx::query_as(text).bind(step.before), query, step).bind(from.unwrap_or(i64::MIN));
    match (&query.topic, query.patterns()) {
        (None, None) => select,
        (Some(topic), _) => select.bind(&**topic),
        (None, Some(patterns)) => select.bind(patterns.globs()),
    }
}

/// Returns the query for the events with these numbers, newest first, to which the filters are applied. The numbers are
/// looked up in their order, so no rows are sorted.
fn select_numbers<'q>(query: &'q EventQuery, step: Step, seqs: &[i64]) -> SelectEvents<'q> {
    let text = events!(
        "WHERE seq IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR ts >= ?3) \
         AND (?4 IS NULL OR ts < ?4) ORDER BY seq DESC LIMIT ?5"
    );
    bind_filters(sqlx::query_as(text).bind(json(seqs)), query, step)
}

/// Binds ?2 to ?5.
fn bind_filters<'q>(select: SelectEvents<'q>, query: &'q EventQuery, step: Step) -> SelectEvents<'q> {
    select
        .bind(query.source.as_deref())
        .bind(query.since.map(Timestamp::as_micros))
        .bind(query.until.map(Timestamp::as_micros))
        .bind(step.limit)
}

/// Adds the events of a step to the page. Rows are read one by one, so that no more of them are in memory than the page
/// may have.
async fn read(
    reader: &mut SqliteConnection,
    keyer: &Keyer,
    query: &EventQuery,
    select: SelectEvents<'_>,
    page: &mut PageBuilder,
) -> Result<(), sqlx::Error> {
    let mut rows = select.fetch(reader);
    while let Some(EventRow(row)) = rows.try_next().await? {
        let event = row.check(keyer);
        if !query.allows(&event) {
            page.skip(&event);
        } else if !page.push(event) {
            break;
        }
    }
    Ok(())
}

/// Returns the events with this topic and id: by key if these two determine it, else by the index that the
/// file then has.
pub(super) async fn event(
    reader: &mut SqliteConnection,
    (layouts, filters): (&Layouts, &Filters),
    keyer: &Keyer,
    topic: &str,
    event_id: &str,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = if keyer.uses_only_topic_and_event_id() {
        let key = keyer.key_of(topic, event_id, None);
        // A snapshot: the partitions of its list are there.
        let mut snapshot = reader.begin().await.map_err(of_statement)?;
        let (layout, _) = layouts.of(&mut snapshot).await?;
        let select = if layout.open.is_some() {
            let seqs = seqs_of(&mut snapshot, &layout, &filters.loaded(), key).await?;
            let text = events!("WHERE seq IN (SELECT value FROM json_each(?2)) LIMIT ?1");
            sqlx::query_as::<_, EventRow>(text).bind(i64::from(limit)).bind(json(&seqs))
        } else {
            sqlx::query_as(events!("WHERE key = ?2 LIMIT ?1")).bind(i64::from(limit)).bind(key)
        };
        let rows = select.fetch_all(&mut *snapshot).await.map_err(of_statement)?;
        snapshot.rollback().await.map_err(of_statement)?;
        rows
    } else {
        let text = events!("WHERE topic = ?2 AND event_id = ?3 ORDER BY seq LIMIT ?1");
        let select = sqlx::query_as::<_, EventRow>(text).bind(i64::from(limit)).bind(topic).bind(event_id);
        select.fetch_all(reader).await.map_err(of_statement)?
    };
    let events = rows.into_iter().map(|row| row.0.check(keyer)).collect();
    // Events with different topics or ids may share a key, and the stored one may be another.
    Ok(alike_or_damaged(events, topic, event_id))
}

/// Returns events in the order of `seq`, from after one number on and before another: as many as have so many bytes, and at
/// least one if there are any. Damaged ones are marked.
pub(super) async fn events_between(
    reader: &mut SqliteConnection,
    keyer: &Keyer,
    (after, before): (i64, i64),
    max_rows: u32,
    max_bytes: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let text = events!("WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3");
    let mut rows = sqlx::query_as::<_, EventRow>(text).bind(after).bind(before).bind(max_rows).fetch(reader);
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(EventRow(row)) = rows.try_next().await.map_err(of_statement)? {
        let event = row.check(keyer);
        bytes += event.payload.len() as u64;
        events.push(event);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(events)
}

/// Reads all rows of events, one at a time, and compares them with their hashes.
pub(super) async fn check_rows(reader: &mut SqliteConnection, keyer: &Keyer) -> Result<RowCheck, sqlx::Error> {
    let mut check = RowCheck::default();
    let mut rows = sqlx::query_as::<_, EventRow>(events!("")).fetch(reader);
    while let Some(EventRow(row)) = rows.try_next().await? {
        check.add(row, keyer);
    }
    Ok(check)
}

/// Returns the statistics. One statement, so one snapshot.
pub(super) async fn statistics(reader: &mut SqliteConnection, max_topics: u32) -> Result<Statistics, StoreError> {
    let select = sqlx::query(
        "WITH topics AS MATERIALIZED ( \
             SELECT topic, sum(received) AS received, sum(unique_processed) AS uniques, \
                    sum(duplicate_dropped) AS duplicates, sum(conflicts) AS conflicts \
             FROM counters GROUP BY topic) \
         SELECT * FROM (SELECT topic, received, uniques, duplicates, conflicts, NULL, NULL, NULL \
             FROM topics ORDER BY received DESC, topic LIMIT ?) \
         UNION ALL \
         SELECT NULL, coalesce(sum(received), 0), coalesce(sum(uniques), 0), coalesce(sum(duplicates), 0), \
                coalesce(sum(conflicts), 0), count(*), (SELECT coalesce(sum(events), 0) FROM dead_letters), \
                (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'dedup_horizon') \
         FROM topics",
    );
    let rows = select.bind(max_topics).fetch_all(reader).await.map_err(of_statement)?;
    let mut statistics = Statistics::default();
    for row in &rows {
        add(&mut statistics, row).map_err(of_statement)?;
    }
    Ok(statistics)
}

fn add(statistics: &mut Statistics, row: &SqliteRow) -> Result<(), sqlx::Error> {
    let Some(topic) = row.try_get::<Option<String>, _>(0)? else {
        (statistics.total, statistics.topic_count) = (counts(row)?, number(row, 5)?);
        statistics.dead_lettered = number(row, 6)?;
        statistics.dedup_horizon = row.try_get::<Option<i64>, _>(7)?.and_then(Timestamp::from_micros);
        return Ok(());
    };
    statistics.topics.insert(topic, counts(row)?);
    Ok(())
}

/// Returns a page of topics.
pub(super) async fn topics(
    reader: &mut SqliteConnection,
    after: Option<&str>,
    limit: u32,
) -> Result<TopicPage, StoreError> {
    // No text is before the empty one, but a topic may be empty.
    let select = sqlx::query(
        "SELECT topic, sum(received), sum(unique_processed), sum(duplicate_dropped), sum(conflicts) \
         FROM counters WHERE topic >= ?1 AND topic IS NOT ?2 GROUP BY topic ORDER BY topic LIMIT ?3",
    );
    let select = select.bind(after.unwrap_or_default()).bind(after).bind(i64::from(limit) + 1);
    let rows = select.fetch_all(reader).await.map_err(of_statement)?;
    let topic = |row: &SqliteRow| Ok((row.try_get(0)?, counts(row)?));
    let topics = rows.iter().map(topic).collect::<Result<_, sqlx::Error>>().map_err(of_statement)?;
    Ok(TopicPage::new(topics, limit))
}

/// Reads the counts from the columns after the topic.
pub(super) fn counts(row: &SqliteRow) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        received: number(row, 1)?,
        unique: number(row, 2)?,
        duplicates: number(row, 3)?,
        conflicts: number(row, 4)?,
    })
}

fn number(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(i64::cast_unsigned)
}

macro_rules! dead_letter_columns {
    () => {
        "id, failed_at, stream, millis, sequence, topic, event_id, events, code, reason, body, receipts"
    };
}

/// Returns dead letters, newest first.
pub(super) async fn dead_letters(
    reader: &mut SqliteConnection,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let text = concat!("SELECT ", dead_letter_columns!(), " FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT ?");
    let select = sqlx::query_as::<_, DeadLetterRow>(text).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows = select.fetch_all(reader).await.map_err(of_statement)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Deletes a dead letter and returns it.
pub(super) async fn take_dead_letter(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<DeadLetter>, StoreError> {
    let text = concat!("DELETE FROM dead_letters WHERE id = ? RETURNING ", dead_letter_columns!());
    let row =
        sqlx::query_as::<_, DeadLetterRow>(text).bind(id).fetch_optional(connection).await.map_err(of_statement)?;
    Ok(row.map(|row| row.0))
}

pub(super) fn timestamp(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_micros(row.try_get(column)?).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: "a timestamp outside of the years 1 to 9999".into(),
    })
}

pub(super) struct EventRow(pub ReadRow);

impl<'r> FromRow<'r, SqliteRow> for EventRow {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let mut damaged = false;
        let event = StoredEvent {
            seq: row.try_get("seq")?,
            topic: value_or(row.try_get("topic"), String::new(), &mut damaged)?,
            event_id: value_or(row.try_get("event_id"), String::new(), &mut damaged)?,
            timestamp: value_or(timestamp(row, "ts"), Timestamp::UNIX_EPOCH, &mut damaged)?,
            source: value_or(row.try_get("source"), None, &mut damaged)?,
            payload: value_or(row.try_get("payload"), String::new(), &mut damaged)?,
            received_at: value_or(timestamp(row, "received_at"), Timestamp::UNIX_EPOCH, &mut damaged)?,
            request_id: value_or(row.try_get("request_id"), RequestId::from_u128(0), &mut damaged)?,
            damaged,
            erased: false,
        };
        let key = value_or(row.try_get("key"), EventKey::from_u128(0), &mut damaged)?;
        let payload_hash = value_or(row.try_get("payload_hash"), PayloadHash::from_u128(0), &mut damaged)?;
        let event = StoredEvent { damaged, ..event };
        Ok(Self(ReadRow { event, key, payload_hash, payload_is_exact: true }))
    }
}

pub(super) struct DeadLetterRow(pub DeadLetter);

impl<'r> FromRow<'r, SqliteRow> for DeadLetterRow {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        let topic: Option<String> = row.try_get("topic")?;
        let event_id: Option<String> = row.try_get("event_id")?;
        let position = Position {
            stream: row.try_get("stream")?,
            millis: row.try_get::<i64, _>("millis")?.cast_unsigned(),
            sequence: row.try_get::<i64, _>("sequence")?.cast_unsigned(),
        };
        let content = NewDeadLetter {
            position,
            event: topic.zip(event_id),
            events: row.try_get::<i64, _>("events")?.cast_unsigned(),
            code: row.try_get("code")?,
            reason: row.try_get("reason")?,
            body: row.try_get("body")?,
            receipts: row.try_get::<Option<Vec<u8>>, _>("receipts")?.as_deref().map(put_aside::from_bytes),
        };
        Ok(Self(DeadLetter { id: row.try_get("id")?, failed_at: timestamp(row, "failed_at")?, content }))
    }
}
