//! Dead letters, as people look at them.

use async_trait::async_trait;

use super::PostgresStore;
use super::query::DeadLetterRow;
use super::timestamptz::Timestamptz;
use crate::StoreError;
use crate::inspect::{
    DeadLetterPage, DeadLetterQuery, Inspect, KILLS_ITS_READER, MAX_BODY_BYTES, MAX_REASON_CHARS, Size, page_range,
};
use crate::ledger::LedgerKind;

/// The condition of a query for dead letters: $1 to $4.
macro_rules! matching {
    () => {
        "id < $1 AND ($2::text IS NULL OR code = $2) AND ($3::timestamptz IS NULL OR failed_at >= $3) \
         AND ($4::timestamptz IS NULL OR failed_at < $4)"
    };
}

macro_rules! bind_query {
    ($select:expr, $query:expr) => {
        $select
            .bind($query.before.unwrap_or(i64::MAX))
            .bind($query.code.as_deref())
            .bind($query.since.map(Timestamptz))
            .bind($query.until.map(Timestamptz))
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
                        CASE WHEN topic IS NULL OR octet_length(body) > $6 THEN 0 ELSE octet_length(body) END::int8 \
                        + least(octet_length(reason), 4 * $7) \
                 FROM dead_letters WHERE ",
                matching!(),
                " ORDER BY id DESC LIMIT $5"
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
                        left(reason, $7) AS reason, \
                        CASE WHEN topic IS NULL OR octet_length(body) > $6 THEN '' ELSE body END AS body, \
                        NULL::bytea AS receipts \
                 FROM dead_letters WHERE ",
                matching!(),
                " AND id >= $5 ORDER BY id DESC"
            ));
            let rows =
                lease.fetch_all(bind_query!(select, query).bind(last).bind(MAX_BODY_BYTES).bind(MAX_REASON_CHARS));
            Ok(DeadLetterPage { dead_letters: rows.await?.into_iter().map(|row| row.0).collect(), next })
        };
        let page = page.await;
        self.finish(lease, page)
    }

    async fn dead_letter_ids(&self, query: &DeadLetterQuery) -> Result<Vec<(i64, u64, String)>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let select = sqlx::query_as::<_, (i64, i64, String)>(concat!(
            "SELECT id, events, code FROM dead_letters WHERE ",
            matching!(),
            // Unless they are asked for by their code.
            " AND (code <> $6 OR code = $2) ORDER BY id DESC LIMIT $5"
        ));
        let select = bind_query!(select, query).bind(i64::from(query.limit)).bind(KILLS_ITS_READER);
        let rows = lease.fetch_all(select).await;
        let rows = self.finish(lease, rows)?;
        Ok(rows.into_iter().map(|(id, events, code)| (id, events.cast_unsigned(), code)).collect())
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
}
