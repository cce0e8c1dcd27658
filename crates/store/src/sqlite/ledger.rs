//! Adds to the ledger.

use sqlx::SqliteConnection;

use super::errors::of_statement;
use crate::StoreError;
use crate::ledger::LedgerRow;

/// The shard in which the retention counts.
pub(super) const RETENTION: &str = "retention";

/// Adds rows to the ledger.
pub(super) async fn add_to_ledger(
    connection: &mut SqliteConnection,
    shard: &str,
    rows: &[LedgerRow<'_>],
) -> Result<(), StoreError> {
    for row in rows {
        let insert = sqlx::query(
            "INSERT INTO ledger (topic, shard, kind, events) VALUES (?, ?, ?, ?) \
             ON CONFLICT (topic, shard, kind) DO UPDATE SET events = events + excluded.events",
        );
        let insert = insert.bind(row.topic).bind(shard).bind(row.kind.as_str()).bind(row.events.cast_signed());
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}
