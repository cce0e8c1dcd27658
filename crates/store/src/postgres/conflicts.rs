//! Keeps conflicts.

use sqlx::postgres::PgBindIterExt;

use super::connections::Lease;
use super::timestamptz::Timestamptz;
use crate::StoreError;
use crate::conflicts::{ConflictLimits, NewConflict};
use crate::retention_clock::micros;

/// Inserts conflicts, but for those of erased events.
pub(super) async fn insert(lease: &mut Lease, conflicts: &[NewConflict<'_>]) -> Result<(), StoreError> {
    let events = || conflicts.iter().map(|conflict| conflict.event);
    let insert = sqlx::query(
        "INSERT INTO conflicts (key, ts, received_at, request_id, topic, event_id, source, payload) \
         SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], \
                              $7::text[], $8::text[]) \
             AS n (key, ts, received_at, request_id, topic, event_id, source, payload) \
         WHERE NOT EXISTS (SELECT FROM erasures AS x WHERE x.key = n.key)",
    );
    let insert = insert
        .bind(conflicts.iter().map(|conflict| conflict.key).bind_iter())
        .bind(events().map(|event| Timestamptz(event.timestamp)).bind_iter())
        .bind(conflicts.iter().map(|conflict| Timestamptz(conflict.received_at)).bind_iter())
        .bind(conflicts.iter().map(|conflict| conflict.request_id).bind_iter())
        .bind(events().map(|event| &*event.topic).bind_iter())
        .bind(events().map(|event| &*event.event_id).bind_iter())
        .bind(events().map(|event| event.source.as_deref()).bind_iter())
        .bind(events().map(|event| &*event.payload).bind_iter());
    lease.execute(insert).await
}

/// Removes conflicts that are too old or too many.
pub(super) async fn remove(lease: &mut Lease, limits: ConflictLimits) -> Result<(), StoreError> {
    let delete = sqlx::query(
        "DELETE FROM conflicts WHERE seen_at < now() - $1 * interval '1 microsecond' \
           OR id <= (SELECT max(id) FROM ( \
               SELECT id, sum(octet_length(payload) + 500) OVER (ORDER BY id DESC) AS bytes FROM conflicts) AS c \
               WHERE bytes > $2)",
    );
    lease.execute(delete.bind(micros(limits.retention)).bind(limits.bytes.cast_signed())).await
}
