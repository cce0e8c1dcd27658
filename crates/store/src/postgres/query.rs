//! The queries of the API.

use std::time::Instant;

use futures::TryStreamExt;
use sluice_event::{Keyer, RequestId, Timestamp};
use sluice_log::Position;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres, Row as _};

use super::connections::Lease;
use super::errors::within;
use super::event_partitions::{TopicIndex, layout, look_up, views};
use super::merge::merge;
use super::settings::PayloadType;
use super::timestamptz::Timestamptz;
use crate::bounded::Merged;
use crate::damage::{ReadRow, RowCheck, alike_or_damaged, value_or};
use crate::page::{PageBuilder, Step};
use crate::partitions::{Filters, Layouts};
use crate::put_aside;
use crate::{Counts, DeadLetter, EventQuery, NewDeadLetter, Page, Statistics, StoreError, StoredEvent, TopicPage};

macro_rules! events {
    ($rest:literal) => {
        concat!(
            "SELECT seq, key, payload_hash, topic, event_id, ts, source, payload, payload_is_exact, received_at, \
                    request_id \
             FROM stored_events ",
            $rest
        )
    };
}

/// Returns a page of events, and whether the connection can be used again: not if the page ended in the middle of
/// an answer, whose rest may be large.
pub(super) async fn events(
    lease: &mut Lease,
    layouts: &Layouts,
    keyer: &Keyer,
    query: &EventQuery,
) -> Result<(Page, bool), StoreError> {
    let layout = layout::current(lease, layouts).await?;
    let mut page = PageBuilder::new(query);
    let mut reusable = true;
    let mut partitions = 1;
    while let Some(step) = page.next_step() {
        let began = Instant::now();
        let lower = layout.lower(step.before, partitions);
        // Where few events are found, more partitions are looked at, so that there are few steps.
        partitions = partitions.saturating_mul(2);
        let from = if let Some(topics) = query.merged_topics() {
            let Merged { seqs, from } = merge(lease, &layout, query, &step, lower.seq, topics).await?;
            reusable = read(lease, keyer, query, select_numbers(query, step, &seqs), &mut page).await?;
            from
        } else {
            let index = layout.topic_index(step.before);
            let from = match step.rows {
                Some(rows) => last_of(lease, index, query.topic.as_deref(), step.before, lower.seq, rows).await?,
                None => None,
            };
            let select = select_range(query, index, step, from.unwrap_or(lower.seq));
            reusable = read(lease, keyer, query, select, &mut page).await?;
            from
        };
        page.end_step(from.or(lower.has_more.then_some(lower.seq)), began.elapsed());
    }
    Ok((page.build(), reusable))
}

/// Returns the `seq` of the last of so many rows, newest first, of those from a `seq` on; `None` if there are fewer.
async fn last_of(
    lease: &mut Lease,
    index: TopicIndex,
    topic: Option<&str>,
    before: i64,
    lower: i64,
    rows: u32,
) -> Result<Option<i64>, StoreError> {
    let (condition, order) = topic.map(|_| of_topic(index, "$4", "$3")).unwrap_or_default();
    let text = format!(
        "SELECT e.seq FROM stored_events AS e WHERE e.seq < $1 AND e.seq >= $3 {condition} \
         ORDER BY {order} e.seq DESC OFFSET $2 LIMIT 1"
    );
    let mut select = sqlx::query_as(AssertSqlSafe(text)).bind(before).bind(i64::from(rows) - 1).bind(lower);
    if let Some(topic) = topic {
        select = select.bind(topic);
    }
    let row: Option<(i64,)> = lease.fetch_optional(select).await?;
    Ok(row.map(|(seq,)| seq))
}

/// Returns the condition for the events of a topic before `$1`, and the beginning of their order, as the index on topics has
/// it.
fn of_topic(index: TopicIndex, topic: &str, from: &str) -> (String, String) {
    (format!("AND {}", index.range("e", topic, "$1", from)), format!("{} DESC,", index.column("e")))
}

type SelectEvents<'q> = QueryAs<'q, Postgres, EventRow, PgArguments>;

/// Returns the query for the events of a step. The index on `seq`, or the one on topics, gives the order; the other
/// filters are applied to each row.
fn select_range(query: &EventQuery, index: TopicIndex, step: Step, from: i64) -> SelectEvents<'_> {
    // Several texts, because a plan for "any topic or this one" would use neither index.
    let (condition, order) = match (&query.topic, query.patterns()) {
        (None, None) => Default::default(),
        (Some(_), _) => of_topic(index, "$7", "$6"),
        (None, Some(_)) => ("AND e.topic LIKE ANY ($7)".to_owned(), String::new()),
    };
    let text = format!(
        "{} AS e WHERE e.seq < $1 AND e.seq >= $6 AND ($2::text IS NULL OR source = $2) \
         AND ($3::timestamptz IS NULL OR ts >= $3) AND ($4::timestamptz IS NULL OR ts < $4) {condition} \
         ORDER BY {order} e.seq DESC LIMIT $5",
        events!("")
    );
    let select = bind_filters(sqlx::query_as(AssertSqlSafe(text)).bind(step.before), query, step).bind(from);
    match (&query.topic, query.patterns()) {
        (None, None) => select,
        (Some(topic), _) => select.bind(topic),
        (None, Some(patterns)) => select.bind(patterns.like()),
    }
}

/// Returns the query for the events with these numbers, newest first, to which the filters are applied. Rows are looked
/// up one by one, in their order: a plan that sorts them would have all their payloads in memory.
fn select_numbers<'q>(query: &'q EventQuery, step: Step, seqs: &'q [i64]) -> SelectEvents<'q> {
    let text = concat!(
        "SELECT e.* FROM (SELECT k.seq FROM unnest($1::int8[]) AS k (seq) ORDER BY k.seq DESC) k CROSS JOIN LATERAL (",
        events!(
            "WHERE stored_events.seq = k.seq AND ($2::text IS NULL OR source = $2) \
             AND ($3::timestamptz IS NULL OR ts >= $3) AND ($4::timestamptz IS NULL OR ts < $4) OFFSET 0"
        ),
        ") e ORDER BY k.seq DESC LIMIT $5"
    );
    bind_filters(sqlx::query_as(text).bind(seqs), query, step)
}

/// Binds $2 to $5.
fn bind_filters<'q>(select: SelectEvents<'q>, query: &'q EventQuery, step: Step) -> SelectEvents<'q> {
    select
        .bind(query.source.as_deref())
        .bind(query.since.map(Timestamptz))
        .bind(query.until.map(Timestamptz))
        .bind(i64::from(step.limit))
}

/// Adds the events of a step to the page. Rows are read one by one, so that no more of them are in memory than the page
/// may have. Returns whether all of them were read.
async fn read(
    lease: &mut Lease,
    keyer: &Keyer,
    query: &EventQuery,
    select: SelectEvents<'_>,
    page: &mut PageBuilder,
) -> Result<bool, StoreError> {
    let deadline = lease.deadline();
    let read = async {
        let mut rows = select.fetch(&mut **lease);
        while let Some(EventRow(row)) = rows.try_next().await? {
            let event = row.check(keyer);
            if !query.allows(&event) {
                page.skip(&event);
            } else if !page.push(event) {
                return Ok(page.step_is_read());
            }
        }
        Ok(true)
    };
    let read = within(deadline, read).await;
    lease.converted(read)
}

/// Returns the events with this topic and id: by key if these two determine it, else by the index that the
/// schema then has.
pub(super) async fn event(
    lease: &mut Lease,
    (layouts, filters): (&Layouts, &Filters),
    (keyer, payload): (&Keyer, PayloadType),
    topic: &str,
    event_id: &str,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let layout = layout::current(lease, layouts).await?;
    let rows = if keyer.uses_only_topic_and_event_id() {
        let key = keyer.key_of(topic, event_id, None);
        let found = look_up::find_anywhere(lease, &layout, &filters.loaded(), vec![key]).await?;
        let Some(found) = found.get(&key) else { return Ok(Vec::new()) };
        let table = found.partition.map_or_else(|| layout.open_table(), layout::table);
        let text = format!("SELECT {} FROM {table} WHERE key = $1", views::stored_columns(payload));
        lease.fetch_all(sqlx::query_as::<_, EventRow>(AssertSqlSafe(text)).bind(key)).await?
    } else {
        let text = events!("WHERE topic = $2 AND event_id = $3 AND seq >= $4 ORDER BY seq LIMIT $1");
        let select = sqlx::query_as::<_, EventRow>(text).bind(i64::from(limit)).bind(topic).bind(event_id);
        lease.fetch_all(select.bind(layout.first_seq())).await?
    };
    let events = rows.into_iter().map(|row| row.0.check(keyer)).collect();
    // Events with different topics or ids may share a key, and the stored one may be another.
    Ok(alike_or_damaged(events, topic, event_id))
}

/// Returns events in the order of `seq`, from after one number on and before another: as many as have so many bytes, and at
/// least one if there are any. Damaged ones are marked.
pub(super) async fn events_between(
    lease: &mut Lease,
    keyer: &Keyer,
    (after, before): (i64, i64),
    max_rows: u32,
    max_bytes: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    // The sizes are known without reading the payloads.
    let text = concat!(
        "SELECT * FROM (SELECT e.*, sum(octet_length(payload)) OVER (ORDER BY seq) AS bytes, \
                               row_number() OVER (ORDER BY seq) AS n FROM (",
        events!("WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT $3"),
        ") AS e) AS e WHERE bytes <= $4 OR n = 1 ORDER BY seq"
    );
    let select = sqlx::query_as::<_, EventRow>(text).bind(after).bind(before).bind(i64::from(max_rows));
    let rows = lease.fetch_all(select.bind(max_bytes.cast_signed())).await?;
    Ok(rows.into_iter().map(|row| row.0.check(keyer)).collect())
}

/// Reads all rows of events, one at a time, and compares them with their hashes.
pub(super) async fn check_rows(connection: &mut PgConnection, keyer: &Keyer) -> Result<RowCheck, sqlx::Error> {
    let mut check = RowCheck::default();
    let all = events!("WHERE seq >= coalesce((SELECT first_seq FROM event_layout), seq)");
    let mut rows = sqlx::query_as::<_, EventRow>(all).fetch(connection);
    while let Some(EventRow(row)) = rows.try_next().await? {
        check.add(row, keyer);
    }
    Ok(check)
}

/// Returns the statistics. One statement, so one snapshot.
pub(super) async fn statistics(lease: &mut Lease, max_topics: u32) -> Result<Statistics, StoreError> {
    let select = sqlx::query_as(
        "WITH topics AS MATERIALIZED ( \
             SELECT topic, sum(received)::int8 AS received, sum(unique_processed)::int8 AS uniques, \
                    sum(duplicate_dropped)::int8 AS duplicates, sum(conflicts)::int8 AS conflicts \
             FROM counters GROUP BY topic) \
         (SELECT topic, received, uniques, duplicates, conflicts, NULL::int8, NULL::int8, NULL::int8 \
          FROM topics ORDER BY received DESC, topic LIMIT $1) \
         UNION ALL \
         SELECT NULL, coalesce(sum(received), 0)::int8, coalesce(sum(uniques), 0)::int8, \
                coalesce(sum(duplicates), 0)::int8, coalesce(sum(conflicts), 0)::int8, count(*), \
                (SELECT coalesce(sum(events), 0)::int8 FROM dead_letters), \
                (SELECT value::int8 FROM settings WHERE name = 'dedup_horizon') \
         FROM topics",
    );
    let mut statistics = Statistics::default();
    for row in lease.fetch_all(select.bind(i64::from(max_topics))).await? {
        match row {
            StatisticsRow::Topic(topic, counts) => {
                statistics.topics.insert(topic, counts);
            }
            StatisticsRow::Totals { total, topic_count, dead_lettered, dedup_horizon } => {
                (statistics.total, statistics.topic_count) = (total, topic_count);
                (statistics.dead_lettered, statistics.dedup_horizon) = (dead_lettered, dedup_horizon);
            }
        }
    }
    Ok(statistics)
}

macro_rules! topics {
    ($where:literal) => {
        concat!(
            "SELECT topic, sum(received)::int8, sum(unique_processed)::int8, sum(duplicate_dropped)::int8, \
                    sum(conflicts)::int8 FROM counters ",
            $where,
            "GROUP BY topic ORDER BY topic LIMIT $1"
        )
    };
}

/// Returns a page of topics. The primary key of the counters gives the order, so no other topics are read.
pub(super) async fn topics(lease: &mut Lease, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError> {
    // Two texts, because a plan for "after this topic or all" would not begin in the middle of the index.
    let text = match after {
        None => topics!(""),
        Some(_) => topics!("WHERE topic > $2 "),
    };
    let mut select = sqlx::query_as::<_, TopicRow>(text).bind(i64::from(limit) + 1);
    if let Some(after) = after {
        select = select.bind(after);
    }
    let rows = lease.fetch_all(select).await?;
    Ok(TopicPage::new(rows.into_iter().map(|TopicRow(topic, counts)| (topic, counts)).collect(), limit))
}

/// A topic and its counts.
pub(super) struct TopicRow(pub String, pub Counts);

impl<'r> FromRow<'r, PgRow> for TopicRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self(row.try_get(0)?, counts(row)?))
    }
}

enum StatisticsRow {
    Topic(String, Counts),
    Totals { total: Counts, topic_count: u64, dead_lettered: u64, dedup_horizon: Option<Timestamp> },
}

impl<'r> FromRow<'r, PgRow> for StatisticsRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let Some(topic) = row.try_get(0)? else {
            let dedup_horizon = row.try_get::<Option<i64>, _>(7)?.and_then(Timestamp::from_micros);
            let (topic_count, dead_lettered) = (number(row, 5)?, number(row, 6)?);
            return Ok(Self::Totals { total: counts(row)?, topic_count, dead_lettered, dedup_horizon });
        };
        Ok(Self::Topic(topic, counts(row)?))
    }
}

/// Reads the counts from the columns after the topic.
pub(super) fn counts(row: &PgRow) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        received: number(row, 1)?,
        unique: number(row, 2)?,
        duplicates: number(row, 3)?,
        conflicts: number(row, 4)?,
    })
}

fn number(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(i64::cast_unsigned)
}

macro_rules! dead_letter_columns {
    () => {
        "id, failed_at, stream, millis, sequence, topic, event_id, events, code, reason, body, receipts"
    };
}

/// Returns dead letters, newest first.
pub(super) async fn dead_letters(
    lease: &mut Lease,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let text = concat!("SELECT ", dead_letter_columns!(), " FROM dead_letters WHERE id < $1 ORDER BY id DESC LIMIT $2");
    let select = sqlx::query_as::<_, DeadLetterRow>(text).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows = lease.fetch_all(select).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Deletes a dead letter and returns it. The deletion locks it: a second replay waits, and then finds none.
pub(super) async fn take_dead_letter(lease: &mut Lease, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let text = concat!("DELETE FROM dead_letters WHERE id = $1 RETURNING ", dead_letter_columns!());
    let delete = sqlx::query_as::<_, DeadLetterRow>(text).bind(id);
    Ok(lease.fetch_optional(delete).await?.map(|row| row.0))
}

pub(super) struct EventRow(pub ReadRow);

impl<'r> FromRow<'r, PgRow> for EventRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let mut damaged = false;
        let unknown = || Timestamptz(Timestamp::UNIX_EPOCH);
        let event = StoredEvent {
            seq: row.try_get("seq")?,
            topic: value_or(row.try_get("topic"), String::new(), &mut damaged)?,
            event_id: value_or(row.try_get("event_id"), String::new(), &mut damaged)?,
            timestamp: value_or(row.try_get("ts"), unknown(), &mut damaged)?.0,
            source: value_or(row.try_get("source"), None, &mut damaged)?,
            payload: value_or(row.try_get("payload"), String::new(), &mut damaged)?,
            received_at: value_or(row.try_get("received_at"), unknown(), &mut damaged)?.0,
            request_id: row.try_get::<RequestId, _>("request_id")?,
            damaged,
            erased: false,
        };
        let (key, payload_hash) = (row.try_get("key")?, row.try_get("payload_hash")?);
        Ok(Self(ReadRow { event, key, payload_hash, payload_is_exact: row.try_get("payload_is_exact")? }))
    }
}

pub(super) struct DeadLetterRow(pub DeadLetter);

impl<'r> FromRow<'r, PgRow> for DeadLetterRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let topic: Option<String> = row.try_get("topic")?;
        let event_id: Option<String> = row.try_get("event_id")?;
        let position = Position {
            stream: u16::try_from(row.try_get::<i32, _>("stream")?).unwrap_or(u16::MAX),
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
        Ok(Self(DeadLetter {
            id: row.try_get("id")?,
            failed_at: row.try_get::<Timestamptz, _>("failed_at")?.0,
            content,
        }))
    }
}
