//! The transaction of a batch, as a process uses it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{EventKey, PayloadHash, ReceiptId};
use sluice_log::Position;
use sluice_meter::Set;
use sluice_store::ledger::LedgerRow;
use sluice_store::marks::{Number, StoredMarks};
use sluice_store::partitions::{Filters, Layout, LayoutSource, Layouts, Loaded, Place, anywhere, closed_places};
use sluice_store::series::BatchCounts;
use sluice_store::{Counts, DeadLetter, Dropped, Inserted, NewDeadLetter, Row, StoreError, Transaction};
use tokio::time::{Instant, timeout_at};

use super::connections::{Connections, Lease};
use super::events::{KILLS, REFUSED, not_simulated};
use super::maintenance::missing;
use super::meters;
use super::server::{Begun, Numbered, StoreServer};
use super::tables::{ONE_TABLE, Tables};
use super::transactions::{Lock, Locked, Open, StoredRow};
use crate::planted::Planted;
use crate::wire::Lost;
use crate::world::{Clock, lock};

/// A transaction on one connection.
pub struct ModelTransaction {
    inner: Arc<Connections>,
    /// Its connection, until that is given back.
    lease: Option<Lease>,
    server: u64,
    id: u64,
    batch: i64,
    /// The partitions, as it has found them.
    layout: Arc<Layout>,
    filters: Loaded,
    /// Keys that were found stored, with the hashes of their payloads.
    found: BTreeMap<EventKey, PayloadHash>,
    generation: u64,
    /// Whether the server has ended it, or will do so without the process.
    ended: bool,
}

impl Drop for ModelTransaction {
    /// The connection is closed. The server notices it at once or later.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (store, id) = (self.inner.store.clone(), self.id);
        let end = move || {
            lock(&store.server).transactions.end(id);
            store.ended.notify_waiters();
        };
        if self.inner.world.chance(0.7) {
            return end();
        }
        let later = self.inner.world.millis_between(1, 1_000);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(later).await;
                end();
            });
        }
    }
}

/// Reads the list of partitions within the transaction.
#[async_trait]
impl LayoutSource for ModelTransaction {
    async fn read_layout(&mut self) -> Result<Layout, StoreError> {
        self.inner.pass("layout").await?;
        self.open(|_| ())?;
        Ok(lock(&self.inner.store.server).events.catalog.layout())
    }
}

impl ModelTransaction {
    /// Begins a transaction on a connection. Waits while partitions are changed.
    pub async fn begin(inner: &Arc<Connections>, lease: Lease, filters: Loaded) -> Result<(Self, String), StoreError> {
        let server = lease.server();
        let deadline = Instant::now() + inner.store.lock_timeout;
        let Begun { id, batch, version } = loop {
            let ended = inner.store.ended.notified();
            if server != inner.current() {
                return Err(StoreError::Unavailable("begin: the connection is broken".into()));
            }
            if let Some(begun) = lock(&inner.store.server).begin(inner.now()) {
                break begun;
            }
            if timeout_at(deadline, ended).await.is_err() {
                lease.give_back();
                return Err(StoreError::Conflict("canceling statement due to lock timeout".into()));
            }
        };
        let (generation, lease) = (lease.generation(), Some(lease));
        let (inner, layout, found) = (inner.clone(), Arc::new(Layout::of_one_table()), BTreeMap::new());
        let transaction = Self { inner, lease, server, id, batch, layout, filters, found, generation, ended: false };
        Ok((transaction, version))
    }

    /// Returns its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Finds out where events are stored, from the list with the version that was read when it began.
    pub async fn find_layout(&mut self, layouts: &Layouts, filters: &Filters, version: &str) -> Result<(), StoreError> {
        let planted = self.inner.planted();
        self.layout = match planted {
            Some(Planted::ListFromMemory) if layouts.cached().open().is_some() => layouts.cached(),
            _ => layouts.with_version(self, Some(version)).await?,
        };
        if !self.layout.has_room_for(self.batch) && planted != Some(Planted::RoomIsNotChecked) {
            return Err(StoreError::Conflict("the open partition of events has no numbers left".into()));
        }
        self.filters = filters.loaded();
        let table = self.table();
        self.open(|open| open.table = table)
    }

    /// Returns the table that new events are written to.
    fn table(&self) -> i32 {
        self.layout.open().unwrap_or(ONE_TABLE)
    }

    /// Returns the closed partitions in which keys are looked up.
    fn closed_places(&self, keys: &[EventKey]) -> Vec<Place> {
        let mut places = closed_places(&self.layout, &self.filters, keys);
        if self.inner.planted() == Some(Planted::NoFilterMeansNo) {
            let closed = self.layout.closed.iter().filter(|closed| self.filters.of(closed).is_none());
            let without: Vec<_> = closed.map(|closed| Some(closed.number)).collect();
            places.retain(|(number, _)| !without.contains(number));
        }
        places
    }

    /// Looks keys up, and remembers those that are stored.
    async fn find(&mut self, places: Vec<Place>) -> Result<(), StoreError> {
        if places.is_empty() {
            return Ok(());
        }
        self.inner.pass("look up").await?;
        self.open(|_| ())?;
        let mut found = Vec::new();
        for (number, keys) in places {
            let table = number.unwrap_or_else(|| self.table());
            let server = lock(&self.inner.store.server);
            let Some(rows) = server.events.tables.get(&table).map(|table| &table.rows) else {
                self.inner.world.violation(format!("keys are looked up in partition {table}, which was dropped"));
                return Err(missing(table));
            };
            found.extend(keys.iter().filter_map(|key| Some((*key, rows.get(key)?.hash))));
        }
        self.filters.count(0, found.len());
        self.found.extend(found);
        Ok(())
    }

    /// Returns what this transaction has done so far.
    fn open<T>(&self, use_it: impl FnOnce(&mut Open) -> T) -> Result<T, StoreError> {
        let now = self.inner.now();
        let mut server = lock(&self.inner.store.server);
        let ended = || StoreError::Unavailable("the transaction was ended by the server".into());
        let open = server.transactions.get(self.id).ok_or_else(ended)?;
        open.used_at = now;
        Ok(use_it(open))
    }

    /// Locks something, and returns whether it is not stored. Waits for another transaction that has locked it.
    async fn insert(&self, what: Lock) -> Result<bool, StoreError> {
        let store = &self.inner.store;
        let deadline = Instant::now() + store.lock_timeout;
        loop {
            let ended = store.ended.notified();
            let locked = {
                let mut server = lock(&store.server);
                if server.is_stored(self.id, what) {
                    return Ok(false);
                }
                server.transactions.lock(self.id, what)
            };
            let (other, used_at) = match locked {
                Locked::Mine => return Ok(true),
                Locked::Wait { other, used_at } => (other, used_at),
                Locked::Deadlock => return Err(StoreError::Conflict("deadlock detected".into())),
                Locked::Ended => return Err(StoreError::Unavailable("ended by the server".into())),
            };
            let idle_until = Duration::from_millis(used_at) + store.lock_timeout;
            let idle_for = idle_until.saturating_sub(self.inner.world.elapsed()).min(store.lock_timeout);
            if idle_for.is_zero() {
                self.inner.note(|| format!("transaction {other} was idle for too long and is ended"));
                lock(&store.server).transactions.end(other);
                store.ended.notify_waiters();
            } else if timeout_at(deadline.min(Instant::now() + idle_for), ended).await.is_err()
                && Instant::now() >= deadline
            {
                lock(&store.server).transactions.stop_waiting(self.id);
                return Err(StoreError::Conflict("canceling statement due to lock timeout".into()));
            }
        }
    }

    /// Inserts receipts and returns those that are new.
    pub async fn insert_all_receipts(&self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
        let mut new = HashSet::new();
        for &id in ids {
            if self.insert(Lock::Receipt(id)).await? {
                self.open(|open| open.receipts.push(id))?;
                new.insert(id);
            }
        }
        Ok(new)
    }

    async fn insert_row(&self, row: &Row<'_>) -> Result<bool, StoreError> {
        if row.event.payload == KILLS {
            self.inner.note(|| "killed by an event".into());
            self.inner.process.kill();
            self.inner.process.running().await;
        }
        if row.event.payload == REFUSED {
            self.open(|open| open.failed = true)?;
            return Err(StoreError::Refused { code: "22P02".into(), message: "invalid input".into() });
        }
        let table = self.table();
        if self.layout.open().is_some_and(|open| open != Tables::partition_of(self.batch)) {
            let batch = self.batch;
            self.inner.world.violation(format!("batch {batch} writes to partition {table}, which has no place for it"));
        }
        if !self.insert(Lock::Event(table, row.key)).await? {
            return Ok(false);
        }
        let stored = StoredRow {
            topic: row.event.topic.to_string(),
            event_id: row.event.event_id.to_string(),
            hash: row.event.payload_hash,
            value: number_in(&row.event.payload),
            request: row.request_id,
            inserted_at: self.inner.world.millis(Clock::Store),
        };
        self.open(|open| open.rows.push((row.key, stored)))?;
        Ok(true)
    }
}

/// Returns the number in a payload of the simulated clients.
fn number_in(payload: &str) -> Option<u64> {
    payload.strip_prefix(r#"{"value":"#)?.strip_suffix('}')?.parse().ok()
}

#[async_trait]
impl Transaction for ModelTransaction {
    fn generation(&self) -> u64 {
        self.generation
    }

    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
        self.inner.pass("insert receipts").await?;
        self.insert_all_receipts(ids).await
    }

    fn may_pause(&self) -> bool {
        self.inner.store.may_pause
    }

    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        self.inner.pass("insert events").await?;
        self.inner.check_room()?;
        // The more a statement has to do, the more likely it takes too long.
        if self.inner.world.chance(0.0005 * rows.len().min(40) as f64) {
            return Err(StoreError::TooSlow("canceling statement due to statement timeout".into()));
        }
        let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
        let mut places = self.closed_places(&keys);
        // As the insertion strategies do that look keys up.
        if self.inner.world.chance(0.3) {
            places.push((None, keys));
        }
        self.find(places).await?;
        let mut new = HashSet::new();
        for row in rows {
            if !self.found.contains_key(&row.key) && self.insert_row(row).await? {
                new.insert(row.key);
            }
        }
        Ok(if new.len() == rows.len() { Inserted::All } else { Inserted::Keys(new) })
    }

    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        let others: Vec<_> = keys.iter().filter(|key| !self.found.contains_key(key)).copied().collect();
        if !others.is_empty() {
            self.find(anywhere(&self.layout, &self.filters, others)).await?;
        }
        Ok(std::mem::take(&mut self.found).into_iter().collect())
    }

    async fn insert_dead_letters(&mut self, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        self.inner.pass("insert dead letters").await?;
        self.open(|open| open.dead_letters.extend_from_slice(dead_letters))
    }

    async fn take_dead_letter(&mut self, _: i64) -> Result<Option<DeadLetter>, StoreError> {
        not_simulated()
    }

    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError> {
        self.inner.pass("insert audit").await?;
        self.open(|open| open.dropped.extend_from_slice(dropped))
    }

    /// The model keeps no ledger: only the command `audit` reads it.
    async fn add_to_ledger(&mut self, _shard: &str, _rows: &[LedgerRow<'_>]) -> Result<(), StoreError> {
        self.inner.pass("add to ledger").await
    }

    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError> {
        self.inner.pass("forget attempts").await?;
        self.open(|open| open.forgotten = Some(position))
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        self.inner.pass("savepoint").await?;
        self.open(|open| open.savepoint = Some(open.rows.len()))
    }

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.inner.pass("rollback to savepoint").await?;
        lock(&self.inner.store.server).transactions.rollback_to_savepoint(self.id);
        self.inner.store.ended.notify_waiters();
        Ok(())
    }

    async fn release_savepoint(&mut self) -> Result<(), StoreError> {
        self.inner.pass("release savepoint").await?;
        self.open(|open| open.savepoint = None)
    }

    fn meters(&self) -> Arc<Set> {
        meters::in_force()
    }

    async fn add_to_meters(&mut self, rows: Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.open(|open| open.meters.extend(rows))
    }

    fn is_compared(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_compared)
    }

    fn set_compared(&mut self) {
        self.lease.iter_mut().for_each(Lease::set_compared);
    }

    fn is_current(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_current)
    }

    fn distrust(&self) {
        self.inner.distrust();
    }

    async fn stored_marks(&mut self) -> Result<StoredMarks, StoreError> {
        self.inner.pass("marks").await?;
        self.open(|_| ())?;
        Ok(lock(&self.inner.store.server).stored_marks())
    }

    async fn commit(
        mut self: Box<Self>,
        shard: &str,
        counts: &BatchCounts<'_>,
        number: Option<Number<'_>>,
    ) -> Result<Option<u64>, StoreError> {
        self.inner.check_room()?;
        let counts: BTreeMap<String, Counts> =
            counts.by_topic().into_iter().map(|(topic, c)| (topic.to_owned(), c)).collect();
        let (world, label) = (self.inner.world.clone(), self.inner.process.label.clone());
        let (id, shard, clock, number) = (self.id, shard.to_owned(), self.inner.clock(), number.map(Numbered::from));
        let run = move |server: &mut StoreServer| {
            let committed = server.commit(id, &counts, number.as_ref(), clock());
            world.note(&label, || match &committed {
                Ok((number, _)) => format!("committed transaction {id} of {shard} as number {number:?}: {counts:?}"),
                Err(error) => format!("transaction {id} of {shard} is not committed: {error}"),
            });
            let (number, violations) = committed?;
            violations.into_iter().for_each(|violation| world.violation(violation));
            Ok(number)
        };
        let lost = match self.inner.call(self.server, run).await {
            Ok(Some(answer)) => {
                if answer.is_ok() {
                    self.ended = true;
                    self.lease.take().into_iter().for_each(Lease::give_back);
                }
                return answer;
            }
            Ok(None) => "the server is gone",
            Err(Lost::Request) => "the request was lost",
            Err(Lost::Answer) => "the answer was lost",
            Err(Lost::Late) => {
                // The server has the request, and keeps the transaction until it executes it.
                self.ended = true;
                "the request is late"
            }
        };
        self.inner.note(|| format!("commit of transaction {id}: {lost}"));
        Err(StoreError::Unavailable("commit: the connection broke".into()))
    }

    async fn rollback(mut self: Box<Self>) {
        let id = self.id;
        // Without an answer the connection counts as lost.
        let ended = self.inner.call(self.server, move |server| server.transactions.end(id)).await;
        if matches!(ended, Ok(Some(_))) {
            self.ended = true;
            self.lease.take().into_iter().for_each(Lease::give_back);
        }
    }
}
