//! A row in PostgreSQL's binary COPY format, described under "Binary Format" of its `COPY`:
//!
//! ```text
//! signature: 11 bytes · flags: 4 · length of the extension: 4 · row* · 0xFFFF
//! row = number of fields: i16 · (length: i32, -1 for null · bytes)*     (all big endian)
//! ```
//!
//! Knows only the event's contract, so that its instructions can be counted apart from the rest
//! (`bench/instructions`).

use sluice_event::{Event, Timestamp};
use uuid::Uuid;

/// What stands before the rows.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands behind them.
pub(super) const TRAILER: [u8; 2] = [0xff, 0xff];
/// The columns, in the order of [`put_row`].
pub(super) const COLUMNS: &str =
    "key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, payload";

const FIELDS: i16 = 10;
/// 2000-01-01T00:00:00Z, where PostgreSQL counts from, in µs since 1970.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// What a row holds.
pub(super) struct Fields<'a> {
    pub key: Uuid,
    pub seq: i64,
    pub received_at: Timestamp,
    pub request_id: Uuid,
    pub event: &'a Event<'a>,
}

/// Appends a row. `before_payload` is what the payload's type has before its text: nothing of json,
/// the version of jsonb.
pub(super) fn put_row(out: &mut Vec<u8>, row: &Fields<'_>, before_payload: &[u8]) {
    let event = row.event;
    out.extend_from_slice(&FIELDS.to_be_bytes());
    put(out, row.key.as_bytes());
    put(out, &row.seq.to_be_bytes());
    put(out, &moment(event.timestamp).to_be_bytes());
    put(out, &moment(row.received_at).to_be_bytes());
    put(out, event.payload_hash.as_bytes());
    put(out, row.request_id.as_bytes());
    put(out, event.topic.as_bytes());
    put(out, event.event_id.as_bytes());
    match &event.source {
        Some(source) => put(out, source.as_bytes()),
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
    put_length(out, before_payload.len() + event.payload.len());
    out.extend_from_slice(before_payload);
    out.extend_from_slice(event.payload.as_bytes());
}

/// `timestamptz`: no moment that a `Timestamp` can hold is out of its range.
fn moment(timestamp: Timestamp) -> i64 {
    timestamp.as_micros() - EPOCH
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Every field is bounded by the limits of an event, far below 2 GiB.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as i32).to_be_bytes());
}
