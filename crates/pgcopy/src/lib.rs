//! PostgreSQL's binary COPY format, described under "Binary Format" of its [`COPY`] statement:
//!
//! ```text
//! stream = signature: 11 bytes · flags: i32 · length of the extension: i32 · extension · row* · -1: i16
//! row    = number of fields: i16 · (length: i32, -1 for null · bytes)*         (all big endian)
//! ```
//!
//! [`event_row`] writes a row of the table of events, [`stream`] splits a stream into smaller ones.
//! This crate does no input or output, so that the instructions of encoding a row can be counted alone.
//!
//! [`COPY`]: https://www.postgresql.org/docs/current/sql-copy.html

pub mod event_row;
pub mod stream;

/// The first bytes of every stream.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Precedes the rows: the signature, no flags, no extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Follows the rows.
pub const TRAILER: [u8; 2] = [0xff, 0xff];
/// 2000-01-01T00:00:00Z in µs since 1970: PostgreSQL counts a `timestamptz` from there.
pub const PG_EPOCH: i64 = 946_684_800_000_000;
