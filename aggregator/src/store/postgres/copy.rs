//! Rows by binary COPY: the quickest way in, which knows no conflict. A key that is stored already
//! fails the statement.

use std::sync::LazyLock;

use sqlx::PgConnection;

use super::PayloadType;
use super::connections::Lease;
use super::encode::{COLUMNS, Fields, HEADER, TRAILER, put_row};
use super::errors::within;
use super::insert::{Into, seq};
use crate::store::Row;

static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("COPY events ({COLUMNS}) FROM STDIN (FORMAT binary)"));
/// The version of jsonb's binary format.
const JSONB_VERSION: &[u8] = &[1];
/// Bytes sent at a time.
const CHUNK: usize = 128 << 10;

/// Copies rows in the order given.
pub(super) async fn events(lease: &mut Lease, into: Into, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let deadline = lease.deadline();
    within(deadline, copy(lease, into, rows)).await
}

async fn copy(connection: &mut PgConnection, into: Into, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let before_payload = match into.payload_type {
        PayloadType::Json => &[],
        PayloadType::Jsonb => JSONB_VERSION,
    };
    let mut copy = connection.copy_in_raw(&STATEMENT).await?;
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 8);
    out.extend_from_slice(HEADER);
    for row in rows {
        let fields = Fields {
            key: row.key,
            seq: seq(into.batch, row.ordinal),
            received_at: row.received_at,
            request_id: row.request_id,
            event: row.event,
        };
        put_row(&mut out, &fields, before_payload);
        if out.len() >= CHUNK {
            copy.send(&*out).await?;
            out.clear();
        }
    }
    out.extend_from_slice(&TRAILER);
    copy.send(&*out).await?;
    copy.finish().await.map(|_| ())
}
