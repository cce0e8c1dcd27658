//! Erases events, and returns conflicts.

use async_trait::async_trait;
use futures::TryStreamExt;
use sluice_event::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _, SqliteConnection};

use super::errors::{of_statement, within};
use super::ledger::add_to_ledger;
use super::tombstones::erase_hashes;
use super::{SqliteStore, meters, query, writer};
use crate::conflicts::{ConflictPage, ConflictQuery, StoredConflict};
use crate::erase::{Erase, Erased, MAX_ALIKE, Rewritten, discarded, rewrite};
use crate::erased::{PAYLOAD, PAYLOAD_HASH};
use crate::meters as any_meters;
use crate::{Store, StoreError, StoredEvent};

/// The number of whole entries among the dead letters that are in memory at the same time.
const ENTRIES: i64 = 4;

#[async_trait]
impl Erase for SqliteStore {
    async fn conflicts(&self, query: &ConflictQuery) -> Result<ConflictPage, StoreError> {
        within(async {
            let mut reader = self.queries.lease().await?;
            let select = sqlx::query_as::<_, ConflictRow>(
                "SELECT * FROM conflicts WHERE id < ?1 AND (?2 IS NULL OR topic = ?2) \
                   AND (?3 IS NULL OR event_id = ?3) ORDER BY id DESC",
            );
            let select = select
                .bind(query.before.unwrap_or(i64::MAX))
                .bind(query.topic.as_deref())
                .bind(query.event_id.as_deref());
            let mut rows = select.fetch(&mut *reader);
            let (mut page, mut bytes) = (ConflictPage::default(), 0);
            while let Some(ConflictRow(conflict)) = rows.try_next().await.map_err(of_statement)? {
                if !page.push(conflict, query.limit, &mut bytes) {
                    break;
                }
            }
            Ok(page)
        })
        .await
    }

    async fn erase(&self, topic: &str, event_id: &str, shard: &str) -> Result<Erased, StoreError> {
        let stored = self.event(topic, event_id, MAX_ALIKE).await?;
        self.forget(&stored).await?;
        let by_number = self.keyer.uses_only_topic_and_event_id();
        let seqs = by_number.then(|| stored.iter().map(|event| event.seq).collect());
        let mut writer = writer::lock(&self.writer).await?;
        writer.begin().await?;
        // An error leaves the transaction open, and the next one rolls it back.
        let erased = erase_all(writer.current().await?, topic, event_id, seqs, shard).await?;
        writer.commit().await?;
        drop(writer);
        // A meter may have read the row once more in between.
        self.forget(&stored).await?;
        Ok(erased)
    }
}

impl SqliteStore {
    /// Removes the values of events from what meters show.
    async fn forget(&self, events: &[StoredEvent]) -> Result<(), StoreError> {
        for event in events.iter().filter(|event| !event.erased && !event.damaged) {
            any_meters::forget(&mut meters::Tables::new(&self.writer, &self.keyer), event).await?;
        }
        Ok(())
    }
}

/// Erases events in a transaction that is open. With `seqs` only these rows are looked at.
async fn erase_all(
    connection: &mut SqliteConnection,
    topic: &str,
    event_id: &str,
    seqs: Option<Vec<i64>>,
    shard: &str,
) -> Result<Erased, StoreError> {
    let (found, events) = erase_rows(connection, topic, event_id, seqs).await?;
    let delete = sqlx::query("DELETE FROM conflicts WHERE topic = ? AND event_id = ?").bind(topic).bind(event_id);
    let conflicts = delete.execute(&mut *connection).await.map_err(of_statement)?.rows_affected();
    let dead_letters = erase_dead_letters(connection, topic, event_id).await?;
    add_to_ledger(connection, shard, &discarded(topic, dead_letters)).await?;
    let dead_letters = dead_letters.0 + dead_letters.1;
    Ok(Erased { found: found || conflicts + dead_letters > 0, events, dead_letters, conflicts })
}

/// Erases the rows. Returns whether there is any, and how many were not erased before.
async fn erase_rows(
    connection: &mut SqliteConnection,
    topic: &str,
    event_id: &str,
    seqs: Option<Vec<i64>>,
) -> Result<(bool, u64), StoreError> {
    let text = "SELECT seq, payload_hash <> ?4 FROM events WHERE topic = ?1 AND event_id = ?2 \
                AND (?3 IS NULL OR seq IN (SELECT value FROM json_each(?3)))";
    // The numbers first: by the index on topics SQLite would read all events of the topic.
    let by_number = "SELECT seq, payload_hash <> ?4 FROM events NOT INDEXED WHERE topic = ?1 AND event_id = ?2 \
                     AND seq IN (SELECT value FROM json_each(?3))";
    let select = sqlx::query_as(if seqs.is_some() { by_number } else { text }).bind(topic).bind(event_id);
    let select = select.bind(seqs.map(|seqs| crate::topics::json(&seqs))).bind(PAYLOAD_HASH);
    let rows: Vec<(i64, bool)> = select.fetch_all(&mut *connection).await.map_err(of_statement)?;
    let mut keys = Vec::new();
    for (seq, _) in rows.iter().filter(|(_, is_left)| *is_left) {
        let erase = sqlx::query_as(
            "UPDATE events SET payload = ?, source = NULL, payload_hash = ? WHERE seq = ? RETURNING key",
        );
        let erase = erase.bind(PAYLOAD).bind(PAYLOAD_HASH).bind(seq);
        keys.push(erase.fetch_one(&mut *connection).await.map_err(of_statement)?);
    }
    erase_hashes(connection, &keys).await?;
    for (key,) in &keys {
        let note = sqlx::query("INSERT INTO erasures (key, erased_at) VALUES (?, ?) ON CONFLICT DO NOTHING");
        let note = note.bind(&**key).bind(Timestamp::now().as_micros());
        note.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok((!rows.is_empty(), keys.len() as u64))
}

/// Removes the events from all dead letters. Returns how many were dead letters of their own, and how many were in entries.
async fn erase_dead_letters(
    connection: &mut SqliteConnection,
    topic: &str,
    event_id: &str,
) -> Result<(u64, u64), StoreError> {
    let delete = sqlx::query_scalar("DELETE FROM dead_letters WHERE topic = ? AND event_id = ? RETURNING events");
    let deleted: Vec<i64> =
        delete.bind(topic).bind(event_id).fetch_all(&mut *connection).await.map_err(of_statement)?;
    let single = deleted.iter().sum::<i64>().cast_unsigned();
    let (mut of_entries, mut after) = (0, i64::MIN);
    loop {
        let entries =
            sqlx::query_as("SELECT id, body FROM dead_letters WHERE topic IS NULL AND id > ? ORDER BY id LIMIT ?");
        let entries: Vec<(i64, Vec<u8>)> =
            entries.bind(after).bind(ENTRIES).fetch_all(&mut *connection).await.map_err(of_statement)?;
        let Some((last, _)) = entries.last() else { return Ok((single, of_entries)) };
        after = *last;
        for (id, body) in entries {
            let Some(Rewritten { body, left, removed }) = rewrite(&body, topic, event_id) else { continue };
            of_entries += removed;
            let write = match left {
                0 => sqlx::query("DELETE FROM dead_letters WHERE id = ?").bind(id),
                _ => sqlx::query("UPDATE dead_letters SET body = ?, events = ? WHERE id = ?")
                    .bind(body)
                    .bind(left.cast_signed())
                    .bind(id),
            };
            write.execute(&mut *connection).await.map_err(of_statement)?;
        }
    }
}

struct ConflictRow(StoredConflict);

impl<'r> FromRow<'r, SqliteRow> for ConflictRow {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self(StoredConflict {
            id: row.try_get("id")?,
            seen_at: query::timestamp(row, "seen_at")?,
            topic: row.try_get("topic")?,
            event_id: row.try_get("event_id")?,
            timestamp: query::timestamp(row, "ts")?,
            source: row.try_get("source")?,
            payload: row.try_get("payload")?,
            received_at: query::timestamp(row, "received_at")?,
            request_id: row.try_get("request_id")?,
        }))
    }
}
