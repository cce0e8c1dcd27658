//! Rows inserted by binary COPY: the fastest statement, but it has no conflict clause. A key that is
//! stored already fails the whole statement.

use sqlx::PgConnection;

use super::connections::Lease;
use super::errors::within;
use super::insert::{BatchTarget, seq};
use super::settings::PayloadColumn;
use crate::Row;
use sluice_pgcopy::event_row::{COLUMNS, EventRow, put_row};
use sluice_pgcopy::{HEADER, TRAILER};

/// The version byte that begins each value in the binary format of jsonb.
const JSONB_VERSION: &[u8] = &[1];
/// Bytes sent at a time.
const CHUNK: usize = 128 << 10;

/// Inserts rows by COPY, in the order given.
pub(super) async fn events(lease: &mut Lease, target: &BatchTarget, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let deadline = lease.deadline();
    within(deadline, copy(lease, target, rows)).await
}

async fn copy(connection: &mut PgConnection, target: &BatchTarget, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let before_payload = match target.payload {
        PayloadColumn::Json | PayloadColumn::Text => &[],
        PayloadColumn::Jsonb => JSONB_VERSION,
    };
    let statement = format!("COPY {} ({COLUMNS}) FROM STDIN (FORMAT binary)", target.table);
    let mut copy = connection.copy_in_raw(&statement).await?;
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 8);
    out.extend_from_slice(HEADER);
    for row in rows {
        let fields = EventRow {
            key: row.key,
            seq: seq(target.batch, row.ordinal),
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
