//! The outcomes of requests.

use sluice_event::{ReceiptId, Timestamp};
use sqlx::SqliteConnection;

use super::errors::of_statement;
use crate::StoreError;
use crate::outcomes::RequestOutcome;

/// Inserts outcomes. Those of a dead letter that is replayed are known already, and stay.
pub(super) async fn insert(connection: &mut SqliteConnection, outcomes: &[RequestOutcome]) -> Result<(), StoreError> {
    let now = Timestamp::now().as_micros();
    for outcome in outcomes {
        let insert = sqlx::query(
            "INSERT INTO outcomes (receipt, committed_at, stored, duplicates, conflicts, dead_lettered) \
             VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        );
        let insert = insert
            .bind(outcome.receipt)
            .bind(now)
            .bind(outcome.stored.cast_signed())
            .bind(outcome.duplicates.cast_signed())
            .bind(outcome.conflicts.cast_signed())
            .bind(outcome.dead_lettered.cast_signed());
        insert.execute(&mut *connection).await.map_err(of_statement)?;
    }
    Ok(())
}

/// Returns the outcomes that are known of these requests.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    receipts: &[ReceiptId],
) -> Result<Vec<RequestOutcome>, StoreError> {
    let mut outcomes = Vec::new();
    for receipt in receipts {
        let select = sqlx::query_as::<_, (i64, i64, i64, i64)>(
            "SELECT stored, duplicates, conflicts, dead_lettered FROM outcomes WHERE receipt = ?",
        );
        let row = select.bind(*receipt).fetch_optional(&mut *connection).await.map_err(of_statement)?;
        outcomes.extend(row.map(|(stored, duplicates, conflicts, dead_lettered)| RequestOutcome {
            receipt: *receipt,
            stored: stored.cast_unsigned(),
            duplicates: duplicates.cast_unsigned(),
            conflicts: conflicts.cast_unsigned(),
            dead_lettered: dead_lettered.cast_unsigned(),
        }));
    }
    Ok(outcomes)
}

/// Removes outcomes of before a time, in µs since 1970.
pub(super) async fn remove(connection: &mut SqliteConnection, before: i64) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM outcomes WHERE committed_at < ?").bind(before);
    delete.execute(connection).await.map(|_| ()).map_err(of_statement)
}
