//! Steps that open and drop partitions, for which batches wait as short as possible.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::connections::Lease;
use super::errors::within;
use super::locks::lock_id;
use super::sqlstate::SqlState;
use crate::StoreError;

/// The shortest and, as a share of the claim time, the longest wait for the lock of a step. Batches queue behind the
/// wait, so it begins short. Transactions that always overlap would let a short wait fail for ever, so it doubles after
/// each failure; but it stays below the time for which a batch waits ([`super::session`]).
const MIN_LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_LOCK_SHARE: u32 = 5;

/// The steps of one process for the partitions of one table.
pub(super) struct PartitionSteps {
    max_lock_timeout: Duration,
    /// How many steps in a row did not get their lock.
    failures: AtomicU32,
}

impl PartitionSteps {
    pub fn new(claim_after: Duration) -> Self {
        Self { max_lock_timeout: claim_after / MAX_LOCK_SHARE, failures: AtomicU32::new(0) }
    }

    /// Returns statements that let one replica at a time go on, and limit the wait for a lock that batches
    /// queue behind.
    pub fn lock(&self, schema: &str) -> String {
        let failures = self.failures.load(Ordering::Relaxed).min(8);
        let timeout = (MIN_LOCK_TIMEOUT * 2_u32.pow(failures)).min(self.max_lock_timeout).as_millis().max(1);
        format!("SET LOCAL lock_timeout = {timeout}; SELECT pg_advisory_xact_lock({});", lock_id(schema, "maintain"))
    }

    /// Runs a step that another transaction may prevent; then it is left for a later call. Returns whether it was done.
    pub async fn attempt(&self, lease: &mut Lease, sql: String, done: &'static str) -> Result<bool, StoreError> {
        let deadline = lease.deadline();
        let error = match within(deadline, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **lease)).await {
            Ok(_) => {
                self.failures.store(0, Ordering::Relaxed);
                tracing::info!("{done}");
                return Ok(true);
            }
            Err(error) => error,
        };
        let Some(state) = SqlState::of(&error) else {
            return lease.converted(Err(error));
        };
        lease.run("ROLLBACK").await?;
        match state {
            // The table exists already or does not exist any more: another replica has done the step in between. The lock
            // is not available: a batch, or a backup, holds the table for longer than this should wait.
            SqlState::DuplicateTable | SqlState::UndefinedTable | SqlState::LockNotAvailable => {
                if state == SqlState::LockNotAvailable {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                tracing::debug!(%error, "the partitions are left as they are for now");
                Ok(false)
            }
            _ => lease.converted(Err(error)),
        }
    }
}

/// Returns whether a transaction that has been running for a while holds a lock on one of these tables, as a dump does:
/// then a drop would wait in vain, and batches behind it. Of the sessions of other roles it may be unknown when their
/// transactions began; they are no batches.
pub(super) async fn is_held_for_long(lease: &mut Lease, tables: &[&str]) -> Result<bool, StoreError> {
    let select = sqlx::query_as(
        "SELECT EXISTS ( \
             SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
             WHERE l.locktype = 'relation' \
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND l.relation = ANY (ARRAY (SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS t (name))) \
               AND l.granted AND l.pid <> pg_backend_pid() \
               AND coalesce(a.xact_start < clock_timestamp() - interval '1 second', true))",
    );
    let (held,): (bool,) = lease.fetch_one(select.bind(tables)).await?;
    Ok(held)
}
