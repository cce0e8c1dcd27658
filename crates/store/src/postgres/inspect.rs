//! Dead letters, as people look at them.

use std::time::Duration;

use async_trait::async_trait;
use sluice_event::ReceiptId;

use super::event_partitions::Tables;
use super::query::DeadLetterRow;
use super::timestamptz::Timestamptz;
use super::{PostgresStore, bounded, outcomes, overdue, series};
use crate::inspect::{
    DeadLetterIds, DeadLetterPage, DeadLetterQuery, IdRow, Inspect, KILLS_ITS_READER, LAST_AUDIT, MAX_BODY_BYTES,
    MAX_REASON_CHARS, Size, page_range,
};
use crate::ledger::LedgerKind;
use crate::outcomes::RequestOutcome;
use crate::partitions::Limits;
use crate::series::{Minute, SeriesCounts, SeriesQuery};
use crate::{Overdue, Patterns, Statistics, StoreError, TopicPage, TopicSelection};

/// The condition of a query for dead letters: $1 to $5.
macro_rules! matching {
    () => {
        "id < $1 AND ($2::text IS NULL OR code = $2) AND ($3::timestamptz IS NULL OR failed_at >= $3) \
         AND ($4::timestamptz IS NULL OR failed_at < $4) AND ($5::text[] IS NULL OR topic LIKE ANY ($5))"
    };
}

macro_rules! bind_query {
    ($select:expr, $query:expr) => {
        $select
            .bind($query.before.unwrap_or(i64::MAX))
            .bind($query.code.as_deref())
            .bind($query.since.map(Timestamptz))
            .bind($query.until.map(Timestamptz))
            .bind($query.patterns.as_ref().map(Patterns::like))
    };
}

#[async_trait]
impl Inspect for PostgresStore {
    async fn dead_letter_page(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let page = async {
            // Only a single event has a body that is shown. The body of an entry killed its reader, or cannot be
            // decoded.
            let sizes = sqlx::query_as::<_, (i64, i64)>(concat!(
                "SELECT id, \
                        CASE WHEN topic IS NULL OR octet_length(body) > $7 THEN 0 ELSE octet_length(body) END::int8 \
                        + least(octet_length(reason), 4 * $8) \
                 FROM dead_letters WHERE ",
                matching!(),
                " ORDER BY id DESC LIMIT $6"
            ));
            let sizes = bind_query!(sizes, query).bind(i64::from(query.limit) + 1);
            let sizes = lease.fetch_all(sizes.bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS)).await?;
            let sizes: Vec<_> = sizes.into_iter().map(|(id, bytes)| Size { id, bytes }).collect();
            let Some((first, last, next)) = page_range(&sizes, query.limit) else {
                return Ok(DeadLetterPage::default());
            };
            // One that was stored in between is not in this page.
            let query = DeadLetterQuery { before: Some(first + 1), ..query.clone() };
            let select = sqlx::query_as::<_, DeadLetterRow>(concat!(
                "SELECT id, failed_at, stream, millis, sequence, topic, event_id, events, code, \
                        left(reason, $8) AS reason, \
                        CASE WHEN topic IS NULL OR octet_length(body) > $7 THEN '' ELSE body END AS body, \
                        NULL::bytea AS receipts \
                 FROM dead_letters WHERE ",
                matching!(),
                " AND id >= $6 ORDER BY id DESC"
            ));
            let rows =
                lease.fetch_all(bind_query!(select, query).bind(last).bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS));
            Ok(DeadLetterPage::new(rows.await?.into_iter().map(|row| row.0).collect(), next, &query))
        };
        let page = page.await;
        self.finish(lease, page)
    }

    async fn dead_letter_ids(&self, query: &DeadLetterQuery) -> Result<DeadLetterIds, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let select = sqlx::query_as::<_, IdRow>(concat!(
            "SELECT id, events, code, topic FROM dead_letters WHERE ",
            matching!(),
            // Unless they are asked for by their code.
            " AND (code <> $7 OR code = $2) ORDER BY id DESC LIMIT $6"
        ));
        let select = bind_query!(select, query).bind(i64::from(query.limit) + 1).bind(KILLS_ITS_READER);
        let rows = lease.fetch_all(select).await;
        Ok(DeadLetterIds::new(self.finish(lease, rows)?, query))
    }

    async fn dead_letter_topic(&self, id: i64) -> Result<Option<String>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let topic = bounded::dead_letter_topic(&mut lease, id).await;
        self.finish(lease, topic)
    }

    async fn discard_dead_letter(&self, id: i64, shard: &str) -> Result<Option<u64>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let discard = sqlx::query_as::<_, (i64,)>(
            "WITH gone AS (DELETE FROM dead_letters WHERE id = $1 RETURNING topic, events), \
             counted AS ( \
                 INSERT INTO ledger AS l (topic, shard, kind, events) \
                 SELECT coalesce(topic, ''), $2, $3, events FROM gone \
                 ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events) \
             SELECT events FROM gone",
        );
        let discard = discard.bind(id).bind(shard).bind(LedgerKind::Discarded.as_str());
        let events = lease.fetch_optional(discard).await;
        Ok(self.finish(lease, events)?.map(|(events,)| events.cast_unsigned()))
    }

    async fn outcomes(&self, receipts: &[ReceiptId]) -> Result<Vec<RequestOutcome>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let outcomes = outcomes::read(&mut lease, receipts).await;
        self.finish(lease, outcomes)
    }

    async fn select_topics(&self, patterns: &Patterns) -> Result<TopicSelection, StoreError> {
        if let Some(selection) = TopicSelection::of_names(patterns) {
            return Ok(selection);
        }
        let mut lease = self.lease(&self.queries).await?;
        let selection = bounded::select_topics(&mut lease, patterns).await;
        self.finish(lease, selection)
    }

    async fn statistics_of(&self, patterns: &Patterns, max_topics: u32) -> Result<Statistics, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let statistics = bounded::statistics(&mut lease, patterns, max_topics).await;
        self.finish(lease, statistics)
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<(Minute, SeriesCounts)>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let rows = series::read(&mut lease, query).await;
        self.finish(lease, rows)
    }

    async fn last_audit(&self) -> Result<Option<String>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let value = sqlx::query_as::<_, (String,)>("SELECT value FROM settings WHERE name = $1").bind(LAST_AUDIT);
        let value = lease.fetch_optional(value).await.map(|row| row.map(|(value,)| value));
        self.finish(lease, value)
    }

    async fn overdue(&self, retention: Option<Duration>) -> Result<Overdue, StoreError> {
        let payload = self.schema().await?.payload_type;
        let limits = Limits { rows: self.settings.partition_rows, retention };
        // Not the connection for maintenance, which may be in use for as long as something is overdue.
        let mut lease = self.lease(&self.queries).await?;
        let (schema, steps) = (&self.settings.schema, &self.event_steps);
        let mut tables = Tables { lease: &mut lease, schema, steps, payload };
        let overdue = overdue::read(&mut tables, &self.filters, limits).await;
        self.finish(lease, overdue)
    }

    async fn topics_of(&self, patterns: &Patterns, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let topics = bounded::topics(&mut lease, patterns, after, limit).await;
        self.finish(lease, topics)
    }
}
