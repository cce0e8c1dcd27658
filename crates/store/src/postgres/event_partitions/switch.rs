//! Puts the events of a schema into partitions that has them in one table.
//!
//! The table becomes a closed partition. Programs that do not know partitions could write nothing any more, so this is
//! done only when none of them has committed for a while, and when the first program that does has started a while ago,
//! because the oldest ones leave no mark when they commit. Until then such a program can be started again. From then on
//! they refuse to start.

use std::time::Duration;

use super::super::connections::Lease;
use super::super::partition_steps::PartitionSteps;
use super::layout::{end_seq, finish_table, first_seq, table};
use super::views;
use crate::StoreError;
use crate::partitions::{BATCH_BITS, batches_before};
use crate::postgres::PayloadType;
use crate::retention_clock::micros;

/// How long no program that does not know partitions must have committed, and how long ago the first one that does must
/// have started.
const SINCE_FORMER_PROGRAMS: Duration = Duration::from_secs(15 * 60);

/// Returns the statements that put the events of a schema into partitions, of which this batch is the last one. They must
/// run in a transaction that no batch runs beside.
pub(crate) fn statements(payload: PayloadType, last_batch: i64) -> String {
    let former = last_batch >> BATCH_BITS;
    // A schema has far fewer batches.
    let former = i32::try_from(former).unwrap_or(i32::MAX - 1);
    let open = former + 1;
    let tables = include_str!("tables.sql");
    let tables = tables
        .replace("{column}", &payload.column(true).to_string())
        .replace("{former}", &former.to_string())
        .replace("{finish_table}", &finish_table(&table(open)))
        .replace("{open}", &open.to_string())
        .replace("{first}", &first_seq(open).to_string())
        .replace("{end}", &end_seq(open))
        .replace("{before}", &batches_before(open).to_string());
    format!("{tables} {}", views::create(payload, Some(former)))
}

/// Puts the events into partitions if programs that do not know them have not committed for a while, and one that does
/// has. Returns whether it was done. If several replicas call this at once, one of them does it.
pub(crate) async fn switch_if_due(
    lease: &mut Lease,
    schema: &str,
    steps: &PartitionSteps,
    payload: PayloadType,
) -> Result<bool, StoreError> {
    let due = sqlx::query_as(
        "SELECT last_batch() FROM commit_marks \
         HAVING bool_or(knows_partitions) \
            AND greatest(max(committed_at) FILTER (WHERE NOT knows_partitions), \
                         (SELECT max(installed_on) FROM _sqlx_migrations WHERE version = 6)) \
                < clock_timestamp() - $1 * interval '1 microsecond'",
    );
    let due: Option<(i64,)> = lease.fetch_optional(due.bind(micros(SINCE_FORMER_PROGRAMS))).await?;
    let Some((batches,)) = due else { return Ok(false) };
    // Batches that begin before the lock is granted have numbers too, and belong into the table.
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {} \
         LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE; \
         {}; COMMIT",
        steps.lock(schema),
        statements(payload, batches),
    );
    steps.attempt(lease, sql, "events lie in partitions from now on").await
}
