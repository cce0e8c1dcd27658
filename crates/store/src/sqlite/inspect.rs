//! Dead letters, as people look at them.

use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{ReceiptId, Timestamp};

use super::arrival_marks;
use super::errors::{of_statement, within};
use super::key_partitions::KeyPartitions;
use super::ledger::add_to_ledger;
use super::query::DeadLetterRow;
use super::{SqliteStore, bounded, outcomes, series, writer};
use crate::inspect::{
    DeadLetterIds, DeadLetterPage, DeadLetterQuery, IdRow, Inspect, KILLS_ITS_READER, LAST_AUDIT, MAX_BODY_BYTES,
    MAX_REASON_CHARS, Size, page_range,
};
use crate::ledger::{LedgerKind, LedgerRow};
use crate::outcomes::RequestOutcome;
use crate::overdue::beyond;
use crate::partitions::Limits;
use crate::series::{Minute, SeriesCounts, SeriesQuery};
use crate::{Overdue, Patterns, Statistics, StoreError, TopicPage, TopicSelection};

/// The condition of a query for dead letters: ?1 to ?5.
macro_rules! matching {
    () => {
        "id < ?1 AND (?2 IS NULL OR code = ?2) AND (?3 IS NULL OR failed_at >= ?3) AND (?4 IS NULL OR failed_at < ?4) \
         AND (?5 IS NULL OR EXISTS (SELECT 1 FROM json_each(?5) WHERE topic GLOB value))"
    };
}

macro_rules! bind_query {
    ($select:expr, $query:expr) => {
        $select
            .bind($query.before.unwrap_or(i64::MAX))
            .bind($query.code.as_deref())
            .bind($query.since.map(Timestamp::as_micros))
            .bind($query.until.map(Timestamp::as_micros))
            .bind($query.patterns.as_ref().map(Patterns::globs))
    };
}

#[async_trait]
impl Inspect for SqliteStore {
    async fn dead_letter_page(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, StoreError> {
        within(async {
            let mut reader = self.queries.lease().await?;
            // Only a single event has a body that is shown. The body of an entry killed its reader, or cannot be
            // decoded.
            let sizes = sqlx::query_as::<_, (i64, i64)>(concat!(
                "SELECT id, CASE WHEN topic IS NULL OR length(body) > ?7 THEN 0 ELSE length(body) END \
                        + min(length(CAST(reason AS BLOB)), 4 * ?8) \
                 FROM dead_letters WHERE ",
                matching!(),
                " ORDER BY id DESC LIMIT ?6"
            ));
            let sizes = bind_query!(sizes, query).bind(i64::from(query.limit) + 1);
            let sizes = sizes.bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS);
            let sizes = sizes.fetch_all(&mut *reader).await.map_err(of_statement)?;
            let sizes: Vec<_> = sizes.into_iter().map(|(id, bytes)| Size { id, bytes }).collect();
            let Some((first, last, next)) = page_range(&sizes, query.limit) else {
                return Ok(DeadLetterPage::default());
            };
            // One that was stored in between is not in this page.
            let query = DeadLetterQuery { before: Some(first + 1), ..query.clone() };
            let select = sqlx::query_as::<_, DeadLetterRow>(concat!(
                "SELECT id, failed_at, stream, millis, sequence, topic, event_id, events, code, \
                        substr(reason, 1, ?8) AS reason, \
                        CASE WHEN topic IS NULL OR length(body) > ?7 THEN x'' ELSE body END AS body, NULL AS receipts \
                 FROM dead_letters WHERE ",
                matching!(),
                " AND id >= ?6 ORDER BY id DESC"
            ));
            let select = bind_query!(select, query).bind(last).bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS);
            let rows = select.fetch_all(&mut *reader).await.map_err(of_statement)?;
            Ok(DeadLetterPage::new(rows.into_iter().map(|row| row.0).collect(), next, &query))
        })
        .await
    }

    async fn dead_letter_ids(&self, query: &DeadLetterQuery) -> Result<DeadLetterIds, StoreError> {
        let select = sqlx::query_as::<_, IdRow>(concat!(
            "SELECT id, events, code, topic FROM dead_letters WHERE ",
            matching!(),
            // Unless they are asked for by their code.
            " AND (code <> ?7 OR code = ?2) ORDER BY id DESC LIMIT ?6"
        ));
        let select = bind_query!(select, query).bind(i64::from(query.limit) + 1).bind(KILLS_ITS_READER);
        let rows = within(async {
            let mut reader = self.queries.lease().await?;
            select.fetch_all(&mut *reader).await.map_err(of_statement)
        });
        Ok(DeadLetterIds::new(rows.await?, query))
    }

    async fn dead_letter_topic(&self, id: i64) -> Result<Option<String>, StoreError> {
        within(async { bounded::dead_letter_topic(&mut *self.queries.lease().await?, id).await }).await
    }

    async fn discard_dead_letter(&self, id: i64, shard: &str) -> Result<Option<u64>, StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        writer.begin().await?;
        let connection = writer.current().await?;
        let delete = sqlx::query_as::<_, (String, i64)>(
            "DELETE FROM dead_letters WHERE id = ? RETURNING coalesce(topic, ''), events",
        );
        // An error leaves the transaction open, and the next one rolls it back.
        let gone = delete.bind(id).fetch_optional(&mut *connection).await.map_err(of_statement)?;
        if let Some((topic, events)) = &gone {
            let row = LedgerRow { topic, kind: LedgerKind::Discarded, events: events.cast_unsigned() };
            add_to_ledger(connection, shard, &[row]).await?;
        }
        writer.commit().await?;
        Ok(gone.map(|(_, events)| events.cast_unsigned()))
    }

    async fn outcomes(&self, receipts: &[ReceiptId]) -> Result<Vec<RequestOutcome>, StoreError> {
        within(async { outcomes::read(&mut *self.queries.lease().await?, receipts).await }).await
    }

    async fn select_topics(&self, patterns: &Patterns) -> Result<TopicSelection, StoreError> {
        if let Some(selection) = TopicSelection::of_names(patterns) {
            return Ok(selection);
        }
        within(async { bounded::select_topics(&mut *self.queries.lease().await?, patterns).await }).await
    }

    async fn statistics_of(&self, patterns: &Patterns, max_topics: u32) -> Result<Statistics, StoreError> {
        within(async { bounded::statistics(&mut *self.queries.lease().await?, patterns, max_topics).await }).await
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<(Minute, SeriesCounts)>, StoreError> {
        within(async { series::read(&mut *self.queries.lease().await?, query).await }).await
    }

    async fn last_audit(&self) -> Result<Option<String>, StoreError> {
        within(async {
            let value = sqlx::query_scalar("SELECT value FROM settings WHERE name = ?1").bind(LAST_AUDIT);
            value.fetch_optional(&mut *self.queries.lease().await?).await.map_err(of_statement)
        })
        .await
    }

    async fn overdue(&self, retention: Option<Duration>) -> Result<Overdue, StoreError> {
        let partitions = KeyPartitions {
            writer: &self.writer,
            readers: &self.queries,
            layouts: &self.layouts,
            filters: &self.filters,
        };
        within(async {
            let (partition, figures) = partitions.look(Limits { rows: self.partition_keys, retention }).await?;
            let mut events = None;
            if let Some(retention) = retention {
                let age =
                    arrival_marks::age_of_oldest(&mut *self.queries.lease().await?).await.map_err(of_statement)?;
                events = Some(beyond(age, retention));
            }
            Ok(Overdue { events, tables: None, partition, figures })
        })
        .await
    }

    async fn topics_of(&self, patterns: &Patterns, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError> {
        within(async { bounded::topics(&mut *self.queries.lease().await?, patterns, after, limit).await }).await
    }
}
