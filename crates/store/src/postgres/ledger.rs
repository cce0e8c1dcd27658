//! Adds to the ledger.

use sqlx::PgConnection;

use super::connections::Lease;
use crate::StoreError;
use crate::ledger::LedgerRow;

/// Adds rows to the ledger, in their order, so that two transactions never deadlock.
pub(super) async fn add_to_ledger(lease: &mut Lease, shard: &str, rows: &[LedgerRow<'_>]) -> Result<(), StoreError> {
    let topics: Vec<_> = rows.iter().map(|row| row.topic).collect();
    let kinds: Vec<_> = rows.iter().map(|row| row.kind.as_str()).collect();
    let events: Vec<_> = rows.iter().map(|row| row.events.cast_signed()).collect();
    let insert = sqlx::query(
        "INSERT INTO ledger AS l (topic, shard, kind, events) \
         SELECT topic, $2, kind, events FROM unnest($1::text[], $3::text[], $4::int8[]) AS n (topic, kind, events) \
         ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events",
    );
    lease.execute(insert.bind(topics).bind(shard).bind(kinds).bind(events)).await
}

/// The shard in which the retention counts.
pub(super) const RETENTION: &str = "retention";

/// Adds up the rows whose shard belongs to none of these consumers, as the counters are added up
/// ([`super::counters::fold`]).
pub(super) async fn fold(
    connection: &mut PgConnection,
    former: &str,
    consumers: &[String],
    max_rows: i64,
) -> Result<(), sqlx::Error> {
    let fold = sqlx::query(
        "WITH gone AS ( \
             DELETE FROM ledger WHERE ctid = ANY (ARRAY ( \
                 SELECT ctid FROM ledger WHERE shard NOT IN ($1, $2) \
                   AND NOT EXISTS (SELECT FROM unnest($3::text[]) AS n (name) WHERE starts_with(shard, name || '/')) \
                 LIMIT $4 FOR UPDATE SKIP LOCKED)) \
             RETURNING topic, kind, events) \
         INSERT INTO ledger AS l (topic, shard, kind, events) \
         SELECT topic, $1, kind, sum(events) FROM gone GROUP BY topic, kind \
         ON CONFLICT (topic, shard, kind) DO UPDATE SET events = l.events + excluded.events",
    );
    fold.bind(former).bind(RETENTION).bind(consumers).bind(max_rows).execute(connection).await.map(|_| ())
}
