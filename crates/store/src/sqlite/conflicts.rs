//! Keeps conflicts.

use sluice_event::Timestamp;
use sqlx::SqliteConnection;

use super::errors::of_statement;
use crate::StoreError;
use crate::conflicts::{ConflictLimits, NewConflict};

/// Inserts conflicts, but for those of erased events.
pub(super) async fn insert(connection: &mut SqliteConnection, conflicts: &[NewConflict<'_>]) -> Result<(), StoreError> {
    let now = Timestamp::now().as_micros();
    for NewConflict { key, event, received_at, request_id } in conflicts {
        let insert = sqlx::query(
            "INSERT INTO conflicts (seen_at, key, ts, received_at, request_id, topic, event_id, source, payload) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS (SELECT 1 FROM erasures WHERE key = ?2)",
        );
        let insert = insert
            .bind(now)
            .bind(*key)
            .bind(event.timestamp.as_micros())
            .bind(received_at.as_micros())
            .bind(*request_id)
            .bind(&*event.topic)
            .bind(&*event.event_id)
            .bind(event.source.as_deref())
            .bind(&*event.payload);
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

/// Removes conflicts that are too old or too many.
pub(super) async fn remove(connection: &mut SqliteConnection, limits: ConflictLimits) -> Result<(), StoreError> {
    let retention = i64::try_from(limits.retention.as_micros()).unwrap_or(i64::MAX);
    let delete = sqlx::query(
        "DELETE FROM conflicts WHERE seen_at < ? OR id <= (SELECT max(id) FROM ( \
             SELECT id, sum(octet_length(payload) + 500) OVER (ORDER BY id DESC) AS bytes FROM conflicts) \
             WHERE bytes > ?)",
    );
    let delete = delete.bind(Timestamp::now().as_micros().saturating_sub(retention)).bind(limits.bytes.cast_signed());
    delete.execute(connection).await.map(|_| ()).map_err(of_statement)
}
