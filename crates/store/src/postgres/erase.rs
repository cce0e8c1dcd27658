//! Erases events, and returns conflicts.

use async_trait::async_trait;
use sluice_event::RequestId;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, Row as _};

use super::connections::Lease;
use super::event_partitions::layout;
use super::ledger::add_to_ledger;
use super::timestamptz::Timestamptz;
use super::{PostgresStore, meters};
use crate::conflicts::{ConflictPage, ConflictQuery, StoredConflict};
use crate::erase::{Erase, Erased, MAX_ALIKE, Rewritten, discarded, rewrite};
use crate::erased::{PAYLOAD, PAYLOAD_HASH};
use crate::{Store, StoreError, StoredEvent};

/// The number of whole entries among the dead letters that are in memory at the same time.
const ENTRIES: i64 = 4;

#[async_trait]
impl Erase for PostgresStore {
    async fn conflicts(&self, query: &ConflictQuery) -> Result<ConflictPage, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        // The sizes are known without reading the payloads.
        let select = sqlx::query_as::<_, ConflictRow>(
            "SELECT id, seen_at, ts, received_at, request_id, topic, event_id, source, payload FROM ( \
                 SELECT *, sum(octet_length(payload)) OVER (ORDER BY id DESC) - octet_length(payload) AS before FROM ( \
                     SELECT * FROM conflicts WHERE id < $1 AND ($2::text IS NULL OR topic = $2) \
                        AND ($3::text IS NULL OR event_id = $3) ORDER BY id DESC LIMIT $4) AS c) AS c \
             WHERE before <= $5 ORDER BY id DESC",
        );
        let select = select
            .bind(query.before.unwrap_or(i64::MAX))
            .bind(query.topic.as_deref())
            .bind(query.event_id.as_deref())
            .bind(i64::from(query.limit) + 1)
            .bind(ConflictPage::BYTES as i64);
        let rows = lease.fetch_all(select).await;
        let (mut page, mut bytes) = (ConflictPage::default(), 0);
        for ConflictRow(conflict) in self.finish(lease, rows)? {
            if !page.push(conflict, query.limit, &mut bytes) {
                break;
            }
        }
        Ok(page)
    }

    async fn erase(&self, topic: &str, event_id: &str, shard: &str) -> Result<Erased, StoreError> {
        let stored = self.event(topic, event_id, MAX_ALIKE).await?;
        self.forget(&stored).await?;
        let by_number = self.settings.keyer.uses_only_topic_and_event_id();
        let seqs = by_number.then(|| stored.iter().map(|event| event.seq).collect());
        let mut lease = self.lease(&self.queries).await?;
        let layout = layout::current(&mut lease, &self.layouts).await?;
        lease.run("BEGIN").await?;
        let table = if layout.open().is_some() { "event_rows" } else { "events" };
        let event = Named { topic, event_id };
        let erased = erase_all(&mut lease, table, event, seqs, shard).await;
        let erased = match erased {
            Ok(erased) => lease.run("COMMIT").await.map(|()| erased),
            Err(error) => {
                lease.roll_back().await;
                return Err(error);
            }
        };
        let erased = self.finish(lease, erased)?;
        // A meter may have read the row once more in between.
        self.forget(&stored).await?;
        Ok(erased)
    }
}

impl PostgresStore {
    /// Removes the values of events from what meters show.
    async fn forget(&self, events: &[StoredEvent]) -> Result<(), StoreError> {
        for event in events.iter().filter(|event| !event.erased && !event.damaged) {
            let mut lease = self.lease(&self.queries).await?;
            let forgotten = meters::forget(&mut lease, &self.settings, event).await;
            self.finish(lease, forgotten)?;
        }
        Ok(())
    }
}

/// The events to erase.
#[derive(Clone, Copy)]
struct Named<'n> {
    topic: &'n str,
    event_id: &'n str,
}

/// Erases events in a transaction that is open. With `seqs` only these rows are looked at.
async fn erase_all(
    lease: &mut Lease,
    table: &str,
    event: Named<'_>,
    seqs: Option<Vec<i64>>,
    shard: &str,
) -> Result<Erased, StoreError> {
    let (found, events) = erase_rows(lease, table, event, seqs).await?;
    let delete = sqlx::query_as::<_, (i64,)>(
        "WITH gone AS (DELETE FROM conflicts WHERE topic = $1 AND event_id = $2 RETURNING 1) SELECT count(*) FROM gone",
    );
    let (conflicts,) = lease.fetch_one(delete.bind(event.topic).bind(event.event_id)).await?;
    let dead_letters = erase_dead_letters(lease, event).await?;
    add_to_ledger(lease, shard, &discarded(event.topic, dead_letters)).await?;
    let (conflicts, dead_letters) = (conflicts.cast_unsigned(), dead_letters.0 + dead_letters.1);
    Ok(Erased { found: found || conflicts + dead_letters > 0, events, dead_letters, conflicts })
}

/// Erases the rows. Returns whether there is any, and how many were not erased before.
async fn erase_rows(
    lease: &mut Lease,
    table: &str,
    event: Named<'_>,
    seqs: Option<Vec<i64>>,
) -> Result<(bool, u64), StoreError> {
    let place = if seqs.is_some() { "seq = ANY ($4)" } else { "hashtext(topic) = hashtext($1) AND $4::int8[] IS NULL" };
    let erase = format!(
        "WITH found AS (SELECT seq, payload_hash FROM {table} WHERE {place} AND topic = $1 AND event_id = $2), \
         erased AS ( \
             UPDATE {table} AS e SET payload = '{PAYLOAD}', source = NULL, payload_hash = $3 FROM found \
             WHERE e.seq = found.seq AND found.payload_hash <> $3 RETURNING e.key), \
         noted AS (INSERT INTO erasures (key) SELECT DISTINCT key FROM erased ON CONFLICT DO NOTHING) \
         SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM erased)"
    );
    let erase = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(erase)).bind(event.topic).bind(event.event_id);
    let (found, erased) = lease.fetch_one(erase.bind(PAYLOAD_HASH).bind(seqs)).await?;
    Ok((found > 0, erased.cast_unsigned()))
}

/// Removes the events from all dead letters. Returns how many were dead letters of their own, and how many were in entries.
async fn erase_dead_letters(lease: &mut Lease, event: Named<'_>) -> Result<(u64, u64), StoreError> {
    let delete = sqlx::query_as::<_, (i64,)>(
        "WITH gone AS (DELETE FROM dead_letters WHERE topic = $1 AND event_id = $2 RETURNING events) \
         SELECT coalesce(sum(events), 0)::int8 FROM gone",
    );
    let (events,) = lease.fetch_one(delete.bind(event.topic).bind(event.event_id)).await?;
    let (single, mut of_entries, mut after) = (events.cast_unsigned(), 0, i64::MIN);
    loop {
        let entries = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT id, body FROM dead_letters WHERE topic IS NULL AND id > $1 ORDER BY id LIMIT $2 FOR UPDATE",
        );
        let entries = lease.fetch_all(entries.bind(after).bind(ENTRIES)).await?;
        let Some((last, _)) = entries.last() else { return Ok((single, of_entries)) };
        after = *last;
        for (id, body) in entries {
            let Some(Rewritten { body, left, removed }) = rewrite(&body, event.topic, event.event_id) else { continue };
            of_entries += removed;
            let write = match left {
                0 => sqlx::query("DELETE FROM dead_letters WHERE id = $1").bind(id),
                _ => sqlx::query("UPDATE dead_letters SET body = $2, events = $3 WHERE id = $1")
                    .bind(id)
                    .bind(body)
                    .bind(left.cast_signed()),
            };
            lease.execute(write).await?;
        }
    }
}

struct ConflictRow(StoredConflict);

impl<'r> FromRow<'r, PgRow> for ConflictRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self(StoredConflict {
            id: row.try_get("id")?,
            seen_at: row.try_get::<Timestamptz, _>("seen_at")?.0,
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
