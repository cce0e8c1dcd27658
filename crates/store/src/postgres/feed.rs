//! The feed of PostgreSQL: which events can be shown while transactions run that began before them.
//!
//! A transaction that stores a batch locks `receipts` in ROW EXCLUSIVE mode, draws the number of its batch, and shows it by an
//! advisory lock (`next_batch()`), in this order. It keeps both locks until its events are visible, or it is rolled back. A
//! reader does this, in this order:
//!
//! 1. It reads the last number that was drawn.
//! 2. It reads the locks. A transaction whose number was drawn by then holds the lock of `receipts`, or has ended. If it
//!    holds that one and does not show its number yet, the number may be any up to the one that was read: the reader tries
//!    again. Else the horizon is before the least number that is shown, or, where none is, the number that was read.
//! 3. With later snapshots it reads the events up to the horizon. Whoever had ended when the locks were read is visible.
//!
//! Transactions of others do not lock `receipts` in this mode, so however long they run, they hold nothing back. Neither does
//! maintenance, which locks it in stronger modes and draws no numbers. The server reads the locks that sessions have on
//! their own (the fast path) before the shared ones: a transaction that begins in between is only seen in part, which is a
//! number that is not shown, or has a number after the one that was read.

use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::PostgresStore;
use super::connections::Lease;
use super::errors::within;
use super::event_partitions::{feed_ranges, layout};
use super::insert::ORDINAL_BITS;
use super::query::EventRow;
use crate::StoreError;
use crate::feed::{Feed, FeedPage, FeedQuery, Generation, Generations, PageBuilder, Place, Start, Step};
use crate::partitions::Layout;
use feed_ranges::Range;

/// Bits of the key of an advisory lock that are the number of the batch.
const SHOWN_BITS: u32 = 43;
/// How often, and how long after one another, locks are read while a number is not shown yet.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);
/// The number of generations that are kept.
const MAX_GENERATIONS: i64 = 1_000;

/// What a page ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Horizon {
    /// The last number that the server has given.
    last: i64,
    /// The last number that nothing can precede any more; `None` if it is not known.
    shown: Option<i64>,
}

#[async_trait]
impl Feed for PostgresStore {
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError> {
        let mut lease = self.lease(&self.lists).await?;
        match self.page(&mut lease, query).await {
            Ok((page, true)) => self.finish(lease, Ok(page)),
            // The connection is closed: reading the rest of the answer could take longer than a new one.
            Ok((page, false)) => Ok(page),
            Err(error) => self.finish(lease, Err(error)),
        }
    }

    async fn begin_generation(&self, loss: Option<u64>) -> Result<(), StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let loss = loss.map_or_else(|| "NULL".to_owned(), |loss| i64::try_from(loss).unwrap_or(i64::MAX).to_string());
        // Locked as for the closing of a partition: no batch has a number and is not committed.
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; \
             INSERT INTO feed_generations (number, from_seq, loss) \
             SELECT (SELECT max(number) + 1 FROM feed_generations), ((last_batch() + 1) << {ORDINAL_BITS}) - 1, {loss} \
             ON CONFLICT (loss) DO NOTHING; \
             DELETE FROM feed_generations \
             WHERE number <= (SELECT max(number) FROM feed_generations) - {MAX_GENERATIONS}; \
             COMMIT"
        );
        let begun = lease.run(AssertSqlSafe(sql)).await;
        self.finish(lease, begun)
    }
}

impl PostgresStore {
    /// Returns a page, and whether the connection can be used again. The transaction keeps a pooler from changing the server.
    async fn page(&self, lease: &mut Lease, query: &FeedQuery) -> Result<(FeedPage, bool), StoreError> {
        let mut attempt = 0;
        let horizon = loop {
            let horizon = begin(lease).await?;
            attempt += 1;
            if horizon.shown.is_some() || attempt == ATTEMPTS {
                break horizon;
            }
            lease.run("COMMIT").await?;
            tokio::time::sleep(PAUSE).await;
        };
        let generations = generations(lease).await?;
        let layout = layout::current(lease, &self.layouts).await?;
        if matches!(query.start, Start::After(cursor) if generations.is_beyond(cursor, horizon.last)) {
            // Soon there is a generation, from which it is known where to go on.
            return Err(StoreError::Behind("a reader of the feed has had more than is stored".into()));
        }
        let place = generations.place(query.start, horizon.last);
        let Place { after, repeats } = match (place, horizon.shown) {
            (Some(place), _) => place,
            (None, Some(shown)) => {
                Place { after: newest(lease, &layout, 0, shown).await?.unwrap_or(0), repeats: false }
            }
            (None, None) => return Err(StoreError::Unavailable("a batch does not show its number".into())),
        };
        let end = match horizon.shown {
            Some(shown) if query.start != Start::Newest => newest(lease, &layout, after, shown).await?,
            _ => None,
        };
        let mut page = PageBuilder::new(query, generations.current(), after, end.unwrap_or(after), repeats);
        while let Some(step) = page.next_step() {
            if !self.read_step(lease, &layout, query, step, &mut page).await? {
                return Ok((page.build(), false));
            }
        }
        lease.run("COMMIT").await?;
        Ok((page.build(), true))
    }

    /// Reads a step, in one table. Returns whether the answer was read to its end.
    async fn read_step(
        &self,
        lease: &mut Lease,
        layout: &Layout,
        query: &FeedQuery,
        step: Step,
        page: &mut PageBuilder,
    ) -> Result<bool, StoreError> {
        let Some(range) = layout.range_after(step.after, page.end()) else {
            page.end_step(page.end());
            return Ok(true);
        };
        let upto = match step.rows {
            Some(rows) => last_of(lease, range, query.topic.as_deref(), rows).await?.unwrap_or(range.upto),
            None => range.upto,
        };
        let range = Range { upto, ..range };
        let text = select(query, range);
        let mut select = sqlx::query(AssertSqlSafe(text))
            .bind(range.after)
            .bind(range.upto)
            .bind(i64::from(step.limit))
            .bind(query.source.as_deref());
        select = match (&query.topic, query.bounded_by()) {
            (None, None) => select,
            (Some(topic), _) => select.bind(topic),
            (None, Some(patterns)) => select.bind(patterns.like()),
        };
        let deadline = lease.deadline();
        let read = async {
            let mut rows = select.fetch(&mut **lease);
            while let Some(row) = rows.try_next().await? {
                let event = <EventRow as sqlx::FromRow<PgRow>>::from_row(&row)?.0.check(&self.settings.keyer);
                if !query.allows(&event) {
                    page.skip(&event);
                } else if !page.push(event) {
                    return Ok(page.step_is_read());
                }
            }
            Ok(true)
        };
        let read = within(deadline, read).await;
        let read = lease.converted(read)?;
        page.end_step(range.upto);
        Ok(read)
    }
}

/// Returns the query for the events of a range. A table's index on topics gives the order, or the one on the number.
fn select(query: &FeedQuery, range: Range) -> String {
    let (condition, order) = match (&query.topic, query.bounded_by()) {
        (None, None) => (String::new(), String::new()),
        (Some(_), _) => (format!("AND {}", range.index.after("e", "$5", "$1", "$2")), range.index.order("e")),
        (None, Some(_)) => ("AND e.topic LIKE ANY ($5)".to_owned(), String::new()),
    };
    format!(
        "SELECT seq, key, payload_hash, topic, event_id, ts, source, payload, payload_is_exact, received_at, request_id \
         FROM stored_events AS e WHERE e.seq > $1 AND e.seq <= $2 AND ($4::text IS NULL OR source = $4) {condition} \
         ORDER BY {order} e.seq LIMIT $3"
    )
}

/// Begins a transaction, and returns the horizon of the snapshots that are taken from now on.
async fn begin(lease: &mut Lease) -> Result<Horizon, StoreError> {
    // Each of these statements has a snapshot of its own, and they run in this order.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
         SELECT last_batch()::text, pg_is_in_recovery()::text; \
         WITH held AS MATERIALIZED ( \
             SELECT virtualtransaction AS holder, locktype = 'relation' AS is_writer, \
                    CASE WHEN locktype = 'advisory' THEN (classid::int8 << 32) | objid::int8 END AS key \
             FROM pg_locks \
             WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND (locktype = 'advisory' AND objsubid = 1 \
                    OR locktype = 'relation' AND relation = 'receipts'::regclass AND mode = 'RowExclusiveLock')), \
         writers AS ( \
             SELECT min(key & ((1::int8 << {SHOWN_BITS}) - 1)) \
                    FILTER (WHERE key >> {SHOWN_BITS} = 'receipts'::regclass::oid::int8 % 1048576) AS shown \
             FROM held GROUP BY holder HAVING bool_or(is_writer)) \
         SELECT (count(*) - count(shown))::text, min(shown)::text FROM writers"
    );
    let rows = lease.run_for_rows(AssertSqlSafe(sql)).await?;
    let text = |row: usize, column: usize| rows.get(row).and_then(|row| row.try_get::<Option<&str>, _>(column).ok()?);
    let number = |row, column| text(row, column).and_then(|number| number.parse::<i64>().ok());
    if text(0, 1) != Some("false") {
        // Its locks are not those of the primary, and its sequence is ahead of what it has.
        return Err(StoreError::Unavailable("the server is a standby".into()));
    }
    let unreadable = || StoreError::Failed("the numbers of batches cannot be read".into());
    let last = number(0, 0).ok_or_else(unreadable)?;
    let hidden = number(1, 0).ok_or_else(unreadable)?;
    let end = |batch: i64| ((batch + 1) << ORDINAL_BITS) - 1;
    let shown = number(1, 1).map_or(last, |shown| last.min(shown - 1));
    Ok(Horizon { last: end(last), shown: (hidden == 0).then(|| end(shown)) })
}

async fn generations(lease: &mut Lease) -> Result<Generations, StoreError> {
    let select = sqlx::query_as("SELECT id::text, from_seq FROM feed_generations ORDER BY number");
    let rows: Vec<(String, i64)> = lease.fetch_all(select).await?;
    let id = |text: &str| u128::from_str_radix(&text.replace('-', ""), 16).map(Generation);
    let rows = rows.iter().map(|(text, from)| Ok((id(text)?, *from))).collect::<Result<_, std::num::ParseIntError>>();
    Generations::new(rows.map_err(|error| StoreError::Failed(format!("the id of a generation: {error}")))?)
}

/// Returns the number of the last event after one and up to another.
async fn newest(lease: &mut Lease, layout: &Layout, after: i64, upto: i64) -> Result<Option<i64>, StoreError> {
    let after = after.max(layout.first_seq().saturating_sub(1));
    let select = sqlx::query_as(
        "SELECT e.seq FROM stored_events AS e WHERE e.seq > $1 AND e.seq <= $2 ORDER BY e.seq DESC LIMIT 1",
    );
    let row: Option<(i64,)> = lease.fetch_optional(select.bind(after).bind(upto)).await?;
    Ok(row.map(|(seq,)| seq))
}

/// Returns the number of the last of so many rows of a range, the oldest first; `None` if there are fewer.
async fn last_of(lease: &mut Lease, range: Range, topic: Option<&str>, rows: u32) -> Result<Option<i64>, StoreError> {
    let index = range.index;
    let (condition, order) = match topic {
        None => (String::new(), String::new()),
        Some(_) => (format!("AND {}", index.after("e", "$4", "$1", "$2")), index.order("e")),
    };
    let text = format!(
        "SELECT e.seq FROM stored_events AS e WHERE e.seq > $1 AND e.seq <= $2 {condition} \
         ORDER BY {order} e.seq OFFSET $3 LIMIT 1"
    );
    let mut select = sqlx::query_as(AssertSqlSafe(text)).bind(range.after).bind(range.upto).bind(i64::from(rows) - 1);
    if let Some(topic) = topic {
        select = select.bind(topic);
    }
    let row: Option<(i64,)> = lease.fetch_optional(select).await?;
    Ok(row.map(|(seq,)| seq))
}
