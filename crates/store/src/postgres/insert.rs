//! Inserting many rows by one statement: one array per column, so that a row needs no message and no
//! planning of its own.

use sluice_event::{EventKey, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgBindIterExt;

use super::connections::Lease;
use super::errors::within;
use super::settings::PayloadColumn;
use super::timestamptz::Timestamptz;
use crate::commit::MAX_BATCH_EVENTS;
use crate::partitions::Layout;
use crate::put_aside;
use crate::{Dropped, Inserted, NewDeadLetter, Row, StoreError};

/// Bits of `seq` below the batch's number.
pub(super) const ORDINAL_BITS: u32 = 20;
/// Bytes of payload in one statement: far below the protocol's limit (1 GB), so that neither side needs
/// much memory at a time.
const STATEMENT_BYTES: usize = 16 << 20;

/// Returns the statement that inserts rows, and returns the keys of those that are new.
fn statement(BatchTarget { table, payload, .. }: &BatchTarget) -> String {
    format!(
        "WITH new AS ( \
             INSERT INTO {table} \
                 (key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload) \
             SELECT key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload::{payload} \
             FROM unnest($1::uuid[], $2::int8[], $3::timestamptz[], $4::timestamptz[], $5::uuid[], $6::uuid[], \
                         $7::text[], $8::text[], $9::text[], $10::text[]) \
                 AS n (key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload) \
             ON CONFLICT (key) DO NOTHING \
             RETURNING key) \
         SELECT array_agg(key) FROM new"
    )
}

/// The batch that rows belong to, and where they are stored.
#[derive(Debug)]
pub(super) struct BatchTarget {
    /// The table.
    pub table: String,
    /// The type of the column that takes their payloads.
    pub payload: PayloadColumn,
    /// The number of the batch: the high bits of `seq`.
    pub batch: i64,
    /// Whether any event was ever erased, so that rows have to be compared with those.
    pub has_erasures: bool,
}

/// Inserts rows, in the order given, by INSERT … ON CONFLICT. Returns the keys that were new.
pub(super) async fn events(lease: &mut Lease, target: &BatchTarget, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
    let mut new = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rows_of_a_statement(rest));
        new.extend(insert(lease, target, now).await?);
        rest = later;
    }
    Ok(if new.len() == rows.len() { Inserted::All } else { Inserted::Keys(new.into_iter().collect()) })
}

fn rows_of_a_statement(rows: &[Row<'_>]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        bytes += row.event.payload.len();
        bytes <= STATEMENT_BYTES
    });
    fits.count().max(1)
}

async fn insert(lease: &mut Lease, target: &BatchTarget, rows: &[Row<'_>]) -> Result<Vec<EventKey>, StoreError> {
    let events = || rows.iter().map(|row| row.event);
    let times = |pick: fn(&Row<'_>) -> Timestamp| rows.iter().map(move |row| Timestamptz(pick(row))).bind_iter();
    let query = sqlx::query_scalar::<_, Option<Vec<EventKey>>>(AssertSqlSafe(statement(target)))
        .bind(rows.iter().map(|row| row.key).bind_iter())
        .bind(rows.iter().map(|row| seq(target.batch, row.ordinal)).bind_iter())
        .bind(times(|row| row.event.timestamp))
        .bind(times(|row| row.received_at))
        .bind(events().map(|event| event.payload_hash).bind_iter())
        .bind(rows.iter().map(|row| row.request_id).bind_iter())
        .bind(events().map(|event| &*event.topic).bind_iter())
        .bind(events().map(|event| &*event.event_id).bind_iter())
        .bind(events().map(|event| event.source.as_deref()).bind_iter())
        .bind(events().map(|event| &*event.payload).bind_iter());
    let new = within(lease.deadline(), query.fetch_one(&mut **lease)).await;
    let new = new.map_err(|error| lease.of_insert(error))?;
    Ok(new.unwrap_or_default())
}

const _: () = assert!(MAX_BATCH_EVENTS == 1 << ORDINAL_BITS, "each event of a batch has a `seq` of its own");

/// Returns the `seq` of a row: by batch, and in stream order within a batch.
pub(super) fn seq(batch: i64, ordinal: u32) -> i64 {
    batch << ORDINAL_BITS | i64::from(ordinal)
}

/// Inserts dead letters.
pub(super) async fn dead_letters(lease: &mut Lease, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError> {
    let event = |dead_letter: &NewDeadLetter| dead_letter.event.clone().unzip();
    let insert = sqlx::query(
        "INSERT INTO dead_letters (stream, millis, sequence, topic, event_id, events, code, reason, body, receipts) \
         SELECT * FROM unnest($1::int4[], $2::int8[], $3::int8[], $4::text[], $5::text[], $6::int8[], \
                              $7::text[], $8::text[], $9::bytea[], $10::bytea[])",
    );
    let insert = insert
        .bind(dead_letters.iter().map(|d| i32::from(d.position.stream)).bind_iter())
        .bind(dead_letters.iter().map(|d| d.position.millis as i64).bind_iter())
        .bind(dead_letters.iter().map(|d| d.position.sequence as i64).bind_iter())
        .bind(dead_letters.iter().map(|d| event(d).0).bind_iter())
        .bind(dead_letters.iter().map(|d| event(d).1).bind_iter())
        .bind(dead_letters.iter().map(|d| d.events as i64).bind_iter())
        .bind(dead_letters.iter().map(|d| &*d.code).bind_iter())
        .bind(dead_letters.iter().map(|d| &*d.reason).bind_iter())
        .bind(dead_letters.iter().map(|d| &*d.body).bind_iter())
        .bind(dead_letters.iter().map(|d| d.receipts.as_deref().map(put_aside::to_bytes)).bind_iter());
    lease.execute(insert).await
}

/// Inserts rows of a batch into the audit trail.
pub(super) async fn audit(
    lease: &mut Lease,
    layout: &Layout,
    batch: i64,
    dropped: &[Dropped],
) -> Result<(), StoreError> {
    // Where events lie in one table, the audit trail does too.
    let insert = match layout.open() {
        Some(_) => {
            let insert = "INSERT INTO audit_rows (key, request_id, conflict, batch) \
                          SELECT *, $4 FROM unnest($1::uuid[], $2::uuid[], $3::bool[])";
            sqlx::query(insert)
        }
        None => sqlx::query(
            "INSERT INTO audit (key, request_id, conflict) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[])",
        ),
    };
    let insert = insert
        .bind(dropped.iter().map(|d| d.key).bind_iter())
        .bind(dropped.iter().map(|d| d.request_id).bind_iter())
        .bind(dropped.iter().map(|d| d.conflict).bind_iter());
    let insert = if layout.open().is_some() { insert.bind(batch) } else { insert };
    lease.execute(insert).await
}
