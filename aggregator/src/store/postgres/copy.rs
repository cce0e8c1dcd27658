//! Rows by binary COPY: the quickest way in, which knows no conflict. A key that is stored already
//! fails the statement.
//!
//! The format is described under "Binary Format" of PostgreSQL's `COPY`:
//!
//! ```text
//! signature: 11 bytes · flags: 4 · length of the extension: 4 · row* · 0xFFFF
//! row = number of fields: i16 · (length: i32, -1 for null · bytes)*     (all big endian)
//! ```

use sqlx::PgConnection;

use super::PayloadType;
use super::connections::Lease;
use super::errors::within;
use super::insert::{Into, seq};
use super::moment::Moment;
use crate::store::Row;

const STATEMENT: &str = "COPY events \
     (key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload) \
     FROM STDIN (FORMAT binary)";
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff, 0xff];
const FIELDS: i16 = 10;
/// The version of jsonb's binary format, which stands before its text.
const JSONB_VERSION: u8 = 1;
/// Bytes sent at a time.
const CHUNK: usize = 128 << 10;

/// Copies rows in the order given.
pub(super) async fn events(lease: &mut Lease, into: Into, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let deadline = lease.deadline();
    within(deadline, copy(lease, into, rows)).await
}

async fn copy(connection: &mut PgConnection, into: Into, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let mut copy = connection.copy_in_raw(STATEMENT).await?;
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 8);
    out.extend_from_slice(HEADER);
    for row in rows {
        put_row(&mut out, into, row);
        if out.len() >= CHUNK {
            copy.send(&*out).await?;
            out.clear();
        }
    }
    out.extend_from_slice(&TRAILER);
    copy.send(&*out).await?;
    copy.finish().await.map(|_| ())
}

/// Appends one row in the order of [`STATEMENT`]'s columns.
fn put_row(out: &mut Vec<u8>, into: Into, row: &Row<'_>) {
    let event = row.event;
    out.extend_from_slice(&FIELDS.to_be_bytes());
    put(out, row.key.as_bytes());
    put(out, &seq(into.batch, row.ordinal).to_be_bytes());
    put(out, &Moment(event.timestamp).as_micros().to_be_bytes());
    put(out, &Moment(row.received_at).as_micros().to_be_bytes());
    put(out, event.payload_hash.as_bytes());
    put(out, row.request_id.as_bytes());
    put(out, event.topic.as_bytes());
    put(out, event.event_id.as_bytes());
    match &event.source {
        Some(source) => put(out, source.as_bytes()),
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
    match into.payload_type {
        PayloadType::Json => put(out, event.payload.as_bytes()),
        PayloadType::Jsonb => {
            put_length(out, event.payload.len() + 1);
            out.push(JSONB_VERSION);
            out.extend_from_slice(event.payload.as_bytes());
        }
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Every field is bounded by the limits of an event, far below 2 GiB.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as i32).to_be_bytes());
}
