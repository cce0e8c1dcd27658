//! Measures the storage that rows take in PostgreSQL.

use anyhow::Context;
use sqlx::PgConnection;

use crate::report::figures::{Figures, Group};

/// Selects names and bytes: of the heap and of each index of the tables with events, and of all other tables of the
/// schema together with their indexes.
const RELATIONS: &str = "
    WITH tables AS (
        SELECT oid, reltoastrelid, relname ~ '^events$|^event_rows_[0-9]+$' AS has_events
        FROM pg_class WHERE relnamespace = quote_ident($1)::regnamespace AND relkind = 'r')
    SELECT 'heap',
           sum(pg_relation_size(oid) + coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))::bigint
    FROM tables WHERE has_events
    UNION ALL
    SELECT 'index ' || substring(pg_get_indexdef(indexrelid) FROM ' USING (.*)$'),
           sum(pg_relation_size(indexrelid))::bigint
    FROM pg_index JOIN tables ON indrelid = oid WHERE has_events GROUP BY 1
    UNION ALL
    SELECT 'receipts, counters, …', coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
    FROM tables WHERE NOT has_events";

/// Returns the position of the end of the write-ahead log, in bytes.
pub async fn wal_position(connection: &mut PgConnection) -> anyhow::Result<f64> {
    let position: f64 = sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8")
        .fetch_one(connection)
        .await
        .context("the position in the write-ahead log")?;
    Ok(position)
}

/// Adds the bytes per row of everything in the schema, and of the log that was written since `wal_before`, while `new` of
/// the rows were stored.
pub async fn measure(
    figures: &mut Figures,
    connection: &mut PgConnection,
    schema: &str,
    (rows, new): (u64, u64),
    wal_before: f64,
) -> anyhow::Result<()> {
    let wal = wal_position(connection).await? - wal_before;
    let relations: Vec<(String, i64)> =
        sqlx::query_as(RELATIONS).bind(schema).fetch_all(connection).await.context("the sizes of the tables")?;
    for (name, bytes) in relations.into_iter().filter(|(_, bytes)| *bytes > 0) {
        figures.add(Group::Postgres, name, bytes as f64 / rows as f64);
    }
    figures.add(Group::Postgres, "WAL", wal / new as f64);
    Ok(())
}
