//! The transaction that stores a batch: a few round trips, whatever the batch contains.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sluice_event::{EventKey, PayloadHash, ReceiptId};
use sluice_log::Position;
use sluice_meter::Set;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr};

use super::connections::Lease;
use super::event_partitions::look_up;
use super::insert::BatchTarget;
use super::insert_strategy::{self, InsertStrategies, Inserter};
use super::{conflicts, counters, insert, ledger, marks, meters, outcomes, query, receipts, series, tombstones};
use crate::conflicts::NewConflict;
use crate::ledger::LedgerRow;
use crate::marks::{Number, StoredMarks};
use crate::meters::MeterSets;
use crate::outcomes::RequestOutcome;
use crate::partitions::{Layout, Layouts, Loaded};
use crate::series::BatchCounts;
use crate::{DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction as StoreTransaction};

/// What [`begin`] reads.
pub(super) struct Begun {
    /// The number of the batch, which is the high bits of its events' `seq`.
    pub batch: i64,
    /// How many events retention had removed when the transaction began.
    pub removed_events: i64,
    /// Where events are stored.
    pub layout: Arc<Layout>,
    /// The meters that are in force.
    pub meters: Arc<Set>,
    /// Whether any event was ever erased.
    pub has_erasures: bool,
    /// The receipts that are new.
    pub new: HashSet<ReceiptId>,
}

/// Begins a transaction and inserts receipts, in one round trip.
///
/// The table is locked before the number of the open receipt partition is read, so that this partition
/// cannot be closed before the transaction ends ([`receipts`] says why). The savepoint that COPY needs
/// ([`insert_strategy::SAVEPOINT`]) is set last, so that it costs no round trip of its own.
pub(super) async fn begin(
    lease: &mut Lease,
    (layouts, sets): (&Layouts, &MeterSets),
    ids: &[ReceiptId],
) -> Result<Begun, StoreError> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         LOCK TABLE ONLY receipts IN ROW EXCLUSIVE MODE; {}; \
         SELECT next_batch()::text, (SELECT value FROM settings WHERE name = 'removed_events'), \
                (SELECT version::text FROM event_layout), (SELECT version::text FROM meter_version), {} \
         FROM receipt_epochs WHERE closed_at IS NULL; \
         {}; {}",
        meters::COUNTS_METERS,
        tombstones::HAS_ERASURES,
        receipts::execute(ids),
        insert_strategy::SAVEPOINT,
    );
    let rows = lease.run_for_rows(AssertSqlSafe(begin)).await?;
    let no_partition = || StoreError::Failed("there is no open partition of receipts".into());
    let (first, new) = rows.split_first().ok_or_else(no_partition)?;
    // Without an open partition the first row would be missing, and a receipt, which is no number, be first.
    let batch = number(first, 0).ok_or_else(no_partition)?;
    let (removed_events, new) = (number(first, 1).unwrap_or(0), receipts::read(new)?);
    let version = first.try_get::<Option<&str>, _>(2).ok().flatten();
    let meter_version = number(first, 3).unwrap_or(0);
    let has_erasures = first.try_get::<Option<&str>, _>(4).ok().flatten() == Some("true");
    let layout = layouts.with_version(lease, version).await?;
    let meters = meters::with_version(lease, sets, meter_version).await?;
    if !layout.has_room_for(batch) {
        // The next maintenance opens another one.
        return Err(StoreError::Conflict("the open partition of events has no numbers left".into()));
    }
    Ok(Begun { batch, removed_events, layout, meters, has_erasures, new })
}

/// Reads a number in text format; `None` if it is NULL or no number.
fn number(row: &PgRow, column: usize) -> Option<i64> {
    row.try_get::<Option<&str>, _>(column).ok().flatten().and_then(|number| number.parse().ok())
}

/// Marks an attempt to store an entry and returns how many were marked. Not part of the batch's
/// transaction, because an entry that kills the process would prevent its commit.
pub(super) async fn mark_attempt(lease: &mut Lease, position: Position) -> Result<u32, StoreError> {
    let mark = sqlx::query_as(
        "INSERT INTO attempts AS a (position, attempts) VALUES ($1, 1) \
         ON CONFLICT (position) DO UPDATE SET attempts = a.attempts + 1, at = now() RETURNING attempts",
    );
    let (attempts,): (i32,) = lease.fetch_one(mark.bind(position.to_string())).await?;
    Ok(attempts.unsigned_abs())
}

/// Takes a mark back.
pub(super) async fn unmark_attempt(lease: &mut Lease, position: Position) -> Result<(), StoreError> {
    let unmark = sqlx::query("UPDATE attempts SET attempts = greatest(attempts - 1, 0) WHERE position = $1");
    lease.execute(unmark.bind(position.to_string())).await
}

/// The transaction. It owns its connection until it is committed. If it is dropped before, the connection
/// is closed and the server rolls back.
pub(super) struct Transaction {
    lease: Lease,
    target: BatchTarget,
    layout: Arc<Layout>,
    filters: Loaded,
    meters: Arc<Set>,
    /// What the meters have counted, which is written together with COMMIT.
    meter_rows: Vec<Vec<u8>>,
    generation: u64,
    strategies: Arc<InsertStrategies>,
    /// Whether the savepoint that COPY needs is set and nothing was written since.
    savepoint_set: bool,
    /// Keys that were found stored, with the hashes of their payloads.
    found: HashMap<EventKey, PayloadHash>,
    /// Whether a statement failed: the server then refuses everything but the rollback to a savepoint, and
    /// executes COMMIT as ROLLBACK without an error.
    failed: bool,
}

impl Transaction {
    /// Wraps what [`begin`] began.
    pub fn new(
        lease: Lease,
        target: BatchTarget,
        (layout, filters): (Arc<Layout>, Loaded),
        meters: Arc<Set>,
        generation: u64,
        strategies: Arc<InsertStrategies>,
    ) -> Self {
        let (found, meter_rows) = (HashMap::new(), Vec::new());
        Self {
            lease,
            target,
            layout,
            filters,
            meters,
            meter_rows,
            generation,
            strategies,
            savepoint_set: true,
            found,
            failed: false,
        }
    }

    /// Tracks the result of a statement; called after every statement that writes.
    fn track<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.savepoint_set = false;
        self.failed |= result.is_err();
        result
    }

    async fn run(&mut self, sql: impl SqlSafeStr + Send) -> Result<(), StoreError> {
        let ran = self.lease.run(sql).await;
        self.track(ran)
    }
}

#[async_trait]
impl StoreTransaction for Transaction {
    fn generation(&self) -> u64 {
        self.generation
    }

    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
        let rows = self.lease.run_for_rows(AssertSqlSafe(receipts::execute(ids))).await;
        self.track(rows.and_then(|rows| receipts::read(&rows)))
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let inserter = Inserter {
            lease: &mut self.lease,
            strategies: &self.strategies,
            target: &self.target,
            layout: &self.layout,
            filters: &self.filters,
            savepoint_set: self.savepoint_set,
            found: &mut self.found,
        };
        let inserted = inserter.insert(rows).await;
        self.track(inserted)
    }

    fn may_pause(&self) -> bool {
        self.strategies.may_pause()
    }

    /// In a statement of its own: its snapshot includes what was committed by transactions that the insert
    /// waited for, which the snapshot of the insert does not.
    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        let others: Vec<_> = keys.iter().filter(|key| !self.found.contains_key(key)).copied().collect();
        if !others.is_empty() {
            let hashes = look_up::find_anywhere(&mut self.lease, &self.layout, &self.filters, others).await;
            let hashes = self.track(hashes)?;
            self.found.extend(hashes.into_values().map(|found| (found.key, found.payload_hash)));
        }
        Ok(std::mem::take(&mut self.found))
    }

    async fn insert_dead_letters(&mut self, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        let inserted = insert::dead_letters(&mut self.lease, dead_letters).await;
        self.track(inserted)
    }

    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        let dead_letter = query::take_dead_letter(&mut self.lease, id).await;
        self.track(dead_letter)
    }

    async fn add_to_ledger(&mut self, shard: &str, rows: &[LedgerRow<'_>]) -> Result<(), StoreError> {
        let added = ledger::add_to_ledger(&mut self.lease, shard, rows).await;
        self.track(added)
    }

    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError> {
        let inserted = insert::audit(&mut self.lease, &self.layout, self.target.batch, dropped).await;
        self.track(inserted)
    }

    async fn insert_conflicts(&mut self, conflicts: &[NewConflict<'_>]) -> Result<(), StoreError> {
        let inserted = conflicts::insert(&mut self.lease, conflicts).await;
        self.track(inserted)
    }

    async fn insert_outcomes(&mut self, outcomes: &[RequestOutcome]) -> Result<(), StoreError> {
        let inserted = outcomes::insert(&mut self.lease, outcomes).await;
        self.track(inserted)
    }

    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM attempts WHERE position = $1").bind(position.to_string());
        let deleted = self.lease.execute(delete).await;
        self.track(deleted)
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT here").await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("ROLLBACK TO SAVEPOINT here; RELEASE SAVEPOINT here").await?;
        self.failed = false;
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), StoreError> {
        self.run("RELEASE SAVEPOINT here").await
    }

    fn is_compared(&self) -> bool {
        self.lease.is_compared()
    }

    fn set_compared(&mut self) {
        self.lease.set_compared();
    }

    fn is_current(&self) -> bool {
        self.lease.is_current()
    }

    fn distrust(&self) {
        self.lease.distrust();
    }

    async fn stored_marks(&mut self) -> Result<StoredMarks, StoreError> {
        let marks = marks::read(&mut self.lease).await;
        self.failed |= marks.is_err();
        marks
    }

    fn meters(&self) -> Arc<Set> {
        Arc::clone(&self.meters)
    }

    async fn add_to_meters(&mut self, rows: Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.meter_rows.extend(rows);
        Ok(())
    }

    async fn commit(
        mut self: Box<Self>,
        shard: &str,
        counts: &BatchCounts<'_>,
        number: Option<Number<'_>>,
    ) -> Result<Option<u64>, StoreError> {
        if self.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        let by_topic = counts.by_topic();
        let add = (!by_topic.is_empty()).then(|| counters::execute(shard, &by_topic));
        let series = (!counts.is_empty()).then(|| series::execute(counts));
        let mark = number.as_ref().map(marks::execute);
        let is_numbered = mark.is_some();
        let meters = meters::insert_rows(&self.meter_rows);
        let BatchTarget { table, batch, has_erasures, .. } = &self.target;
        let batch = (insert::seq(*batch, 0), insert::seq(*batch + 1, 0));
        let erase = has_erasures.then(|| tombstones::erase_again(table, batch));
        let statements: Vec<_> =
            erase.into_iter().chain(meters).chain(series).chain(add).chain(mark).chain(["COMMIT".to_owned()]).collect();
        let rows = self.lease.run_for_rows(AssertSqlSafe(statements.join("; "))).await;
        match &rows {
            Ok(_) => self.lease.give_back(),
            Err(error) if error.leaves_connection_usable() => self.lease.roll_back().await,
            Err(_) => {}
        }
        let rows = rows?;
        if is_numbered { marks::number(&rows).map(Some) } else { Ok(None) }
    }

    async fn rollback(self: Box<Self>) {
        self.lease.roll_back().await;
    }
}
