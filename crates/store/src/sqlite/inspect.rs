//! Dead letters, as people look at them.

use async_trait::async_trait;
use sluice_event::Timestamp;

use super::errors::{of_statement, within};
use super::ledger::add_to_ledger;
use super::query::DeadLetterRow;
use super::{SqliteStore, writer};
use crate::StoreError;
use crate::inspect::{
    DeadLetterPage, DeadLetterQuery, Inspect, KILLS_ITS_READER, MAX_BODY_BYTES, MAX_REASON_CHARS, Size, page_range,
};
use crate::ledger::{LedgerKind, LedgerRow};

/// The condition of a query for dead letters: ?1 to ?4.
macro_rules! matching {
    () => {
        "id < ?1 AND (?2 IS NULL OR code = ?2) AND (?3 IS NULL OR failed_at >= ?3) AND (?4 IS NULL OR failed_at < ?4)"
    };
}

macro_rules! bind_query {
    ($select:expr, $query:expr) => {
        $select
            .bind($query.before.unwrap_or(i64::MAX))
            .bind($query.code.as_deref())
            .bind($query.since.map(Timestamp::as_micros))
            .bind($query.until.map(Timestamp::as_micros))
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
                "SELECT id, CASE WHEN topic IS NULL OR length(body) > ?6 THEN 0 ELSE length(body) END \
                        + min(length(CAST(reason AS BLOB)), 4 * ?7) \
                 FROM dead_letters WHERE ",
                matching!(),
                " ORDER BY id DESC LIMIT ?5"
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
                        substr(reason, 1, ?7) AS reason, \
                        CASE WHEN topic IS NULL OR length(body) > ?6 THEN x'' ELSE body END AS body, NULL AS receipts \
                 FROM dead_letters WHERE ",
                matching!(),
                " AND id >= ?5 ORDER BY id DESC"
            ));
            let select = bind_query!(select, query).bind(last).bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS);
            let rows = select.fetch_all(&mut *reader).await.map_err(of_statement)?;
            Ok(DeadLetterPage { dead_letters: rows.into_iter().map(|row| row.0).collect(), next })
        })
        .await
    }

    async fn dead_letter_ids(&self, query: &DeadLetterQuery) -> Result<Vec<(i64, u64, String)>, StoreError> {
        let select = sqlx::query_as::<_, (i64, i64, String)>(concat!(
            "SELECT id, events, code FROM dead_letters WHERE ",
            matching!(),
            // Unless they are asked for by their code.
            " AND (code <> ?6 OR code = ?2) ORDER BY id DESC LIMIT ?5"
        ));
        let select = bind_query!(select, query).bind(i64::from(query.limit)).bind(KILLS_ITS_READER);
        let rows = within(async {
            let mut reader = self.queries.lease().await?;
            select.fetch_all(&mut *reader).await.map_err(of_statement)
        });
        let rows = rows.await?;
        Ok(rows.into_iter().map(|(id, events, code)| (id, events.cast_unsigned(), code)).collect())
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
}
