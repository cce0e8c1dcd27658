//! The disk space of the tables.

use super::connections::Lease;
use crate::StoreError;

/// Returns the disk space of all tables of a schema with their indexes, in bytes.
pub(super) async fn of_schema(lease: &mut Lease, schema: &str) -> Result<u64, StoreError> {
    // Partitioned tables have no files of their own.
    let select = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class \
         WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)";
    let (bytes,): (i64,) = lease.fetch_one(sqlx::query_as(select).bind(schema)).await?;
    Ok(bytes.unsigned_abs())
}
