//! The outcomes of requests.

use std::time::Duration;

use sluice_event::ReceiptId;
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{FromRow, Row as _};

use super::connections::Lease;
use crate::StoreError;
use crate::outcomes::RequestOutcome;
use crate::retention_clock::micros;

/// Inserts outcomes. Those of a dead letter that is replayed are known already, and stay.
pub(super) async fn insert(lease: &mut Lease, outcomes: &[RequestOutcome]) -> Result<(), StoreError> {
    let numbers = |pick: fn(&RequestOutcome) -> u64| outcomes.iter().map(move |o| pick(o) as i64).bind_iter();
    let insert = sqlx::query(
        "INSERT INTO outcomes (receipt, stored, duplicates, conflicts, dead_lettered) \
         SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[], $5::int8[]) \
         ON CONFLICT DO NOTHING",
    );
    let insert = insert
        .bind(outcomes.iter().map(|outcome| outcome.receipt).bind_iter())
        .bind(numbers(|outcome| outcome.stored))
        .bind(numbers(|outcome| outcome.duplicates))
        .bind(numbers(|outcome| outcome.conflicts))
        .bind(numbers(|outcome| outcome.dead_lettered));
    lease.execute(insert).await
}

/// Returns the outcomes that are known of these requests.
pub(super) async fn read(lease: &mut Lease, receipts: &[ReceiptId]) -> Result<Vec<RequestOutcome>, StoreError> {
    let select = sqlx::query_as::<_, OutcomeRow>(
        "SELECT receipt, stored, duplicates, conflicts, dead_lettered FROM outcomes WHERE receipt = ANY ($1)",
    );
    let rows = lease.fetch_all(select.bind(receipts.iter().copied().bind_iter())).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Removes outcomes that are older than receipts may be.
pub(super) async fn remove(lease: &mut Lease, ttl: Duration) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM outcomes WHERE committed_at < now() - $1 * interval '1 microsecond'");
    lease.execute(delete.bind(micros(ttl))).await
}

struct OutcomeRow(RequestOutcome);

impl<'r> FromRow<'r, PgRow> for OutcomeRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let number = |column| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
        Ok(Self(RequestOutcome {
            receipt: row.try_get(0)?,
            stored: number(1)?,
            duplicates: number(2)?,
            conflicts: number(3)?,
            dead_lettered: number(4)?,
        }))
    }
}
