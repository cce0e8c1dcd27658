//! The views of all events: what users of SQL select from, and what the programs read.

use super::layout::table;
use crate::postgres::PayloadType;

/// Returns what is selected of the tables with events, so that it is a row as the programs read it.
pub(crate) fn stored_columns(payload: PayloadType) -> String {
    format!(
        "seq, key, payload_hash, topic, event_id, ts, source, payload::text AS payload, {} AS payload_is_exact, \
         received_at, request_id",
        payload == PayloadType::Json
    )
}

/// Returns the statements that make or replace the views. That of the users has no removed events; the programs' one has
/// them until their table is dropped, and queries of it say from where on they read, so that few partitions are planned.
/// `former` is the partition that was the one table of all events, while it is there.
pub(crate) fn create(payload: PayloadType, former: Option<i32>) -> String {
    let all = |columns: String, is_there: &str| {
        let of = |table: String| format!("SELECT {columns} FROM {table}{is_there}");
        let tables = [Some("event_rows".to_owned()), former.map(table)];
        tables.into_iter().flatten().map(of).collect::<Vec<_>>().join(" UNION ALL ")
    };
    format!(
        "CREATE OR REPLACE VIEW events AS {}; CREATE OR REPLACE VIEW stored_events AS {}",
        all(
            format!(
                "key, seq, ts, received_at, payload_hash, request_id, topic, event_id, source, \
                 payload::{payload} AS payload"
            ),
            " WHERE seq >= (SELECT first_seq FROM event_layout)"
        ),
        all(stored_columns(payload), ""),
    )
}
