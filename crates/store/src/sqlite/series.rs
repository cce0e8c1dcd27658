//! Series: each batch adds to the rows of its topics and minutes. There is one transaction at a time, so none waits for another.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::sync::Mutex;

use super::bulk::Bulk;
use super::errors::of_statement;
use super::writer::{self, Writer};
use crate::StoreError;
use crate::series::{BatchCounts, Minute, SeriesCounts, SeriesQuery, SeriesRow, of_row};
use crate::topics::json;

static ADD: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "INSERT INTO series (topic, minute, received, unique_processed, duplicate_dropped, conflicts, dead_lettered) VALUES",
        "(?,?,?,?,?,?,?)",
        "ON CONFLICT (topic, minute) DO UPDATE SET \
             received = received + excluded.received, \
             unique_processed = unique_processed + excluded.unique_processed, \
             duplicate_dropped = duplicate_dropped + excluded.duplicate_dropped, \
             conflicts = conflicts + excluded.conflicts, \
             dead_lettered = dead_lettered + excluded.dead_lettered",
    )
});
/// Rows that are removed in one transaction.
const CHUNK: i64 = 5_000;
/// Rows that one call removes at most.
const MAX_REMOVED: u64 = 100_000;

/// Adds the counts of a batch.
pub(super) async fn add(connection: &mut SqliteConnection, counts: &BatchCounts<'_>) -> Result<(), StoreError> {
    let rows: Vec<_> = counts.rows().collect();
    for (text, rows) in ADD.statements(&rows) {
        let add =
            rows.iter().fold(sqlx::query(text), |add, (topic, minute, SeriesCounts { counts, dead_lettered })| {
                add.bind(*topic)
                    .bind(minute.0)
                    .bind(counts.received.cast_signed())
                    .bind(counts.unique.cast_signed())
                    .bind(counts.duplicates.cast_signed())
                    .bind(counts.conflicts.cast_signed())
                    .bind(dead_lettered.cast_signed())
            });
        add.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

/// Removes the rows of minutes that ended longer ago than `retention`, in small steps, so that batches are stored in between.
pub(super) async fn maintain(writer: &Arc<Mutex<Writer>>, retention: Option<Duration>) -> Result<(), StoreError> {
    let Some(retention) = retention else { return Ok(()) };
    let before = Minute::now().before(retention);
    let mut removed = 0;
    while removed < MAX_REMOVED {
        let mut guard = writer::lock(writer).await?;
        let delete = "DELETE FROM series WHERE (topic, minute) IN \
                      (SELECT topic, minute FROM series WHERE minute < ? ORDER BY minute LIMIT ?)";
        let delete = sqlx::query(delete).bind(before.0).bind(CHUNK);
        let deleted = delete.execute(guard.connection().await?).await.map_err(of_statement)?.rows_affected();
        removed += deleted;
        if deleted < CHUNK.cast_unsigned() {
            break;
        }
    }
    Ok(())
}

/// Returns the counts that are not zero, in the order of time, each with the first minute of its step.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    SeriesQuery { topics, from, to, step }: &SeriesQuery,
) -> Result<Vec<(Minute, SeriesCounts)>, StoreError> {
    // Two texts, because a plan for "these topics or all" would not use the index of topics.
    let which = if topics.is_some() { "AND topic IN (SELECT value FROM json_each(?4))" } else { "AND ?4 IS NULL" };
    let text = format!(
        "SELECT minute - ((minute % ?3) + ?3) % ?3, sum(received), sum(unique_processed), sum(duplicate_dropped), \
                sum(conflicts), sum(dead_lettered) \
         FROM series WHERE minute >= ?1 AND minute < ?2 {which} GROUP BY 1 ORDER BY 1"
    );
    let select = sqlx::query_as::<_, SeriesRow>(AssertSqlSafe(text));
    let select = select.bind(from.0).bind(to.0).bind(step).bind(topics.as_deref().map(json));
    let rows = select.fetch_all(connection).await.map_err(of_statement)?;
    Ok(rows.into_iter().map(of_row).collect())
}
