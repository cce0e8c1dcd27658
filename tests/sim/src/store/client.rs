//! What a process uses of the model store: the traits of the aggregators.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{EventKey, PayloadHash, ReceiptId};
use sluice_log::Position;
use sluice_store::dedup_cache::DedupCache;
use sluice_store::{
    Counts, DeadLetter, Dropped, EventQuery, Inserted, Maintenance, NewDeadLetter, Page, Removed, Row, Statistics,
    Store, StoreError, StoredEvent, TopicPage, Transaction,
};
use sluice_store::{ledger::LedgerRow, marks::Number};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::events::{KILLS, REFUSED, not_simulated};
use super::server::StoreServer;
use super::transactions::{Lock, Locked, Open, StoredRow};
use crate::planted::Planted;
use crate::process::Process;
use crate::wire::{self, Lost};
use crate::world::{Clock, Link, World, lock};

/// The store, as all processes see it.
pub struct ModelStore {
    /// Its state.
    pub server: Mutex<StoreServer>,
    /// Notifies transactions that wait for others.
    pub ended: Notify,
    /// How long a transaction waits for another, and may be idle while others wait for it.
    pub lock_timeout: Duration,
    /// What [`Transaction::may_pause`] returns.
    pub may_pause: bool,
}

/// The connections of one process to the store.
pub struct StoreClient {
    inner: Arc<Inner>,
    cache: DedupCache,
    replays: tokio::sync::Mutex<()>,
}

struct Inner {
    world: Arc<World>,
    process: Arc<Process>,
    store: Arc<ModelStore>,
    /// Connections that were lost.
    lost: AtomicU64,
    /// The generation of the server when this process last connected.
    connected: AtomicU64,
    planted: Option<Planted>,
}

impl StoreClient {
    /// Connects a process, with a cache of so many keys.
    pub fn new(
        world: Arc<World>,
        process: Arc<Process>,
        store: Arc<ModelStore>,
        keys: usize,
        planted: Option<Planted>,
    ) -> Self {
        let connected = AtomicU64::new(lock(&store.server).generation);
        let inner = Inner { world, process, store, lost: AtomicU64::new(0), connected, planted };
        Self { inner: Arc::new(inner), cache: DedupCache::new(keys), replays: tokio::sync::Mutex::new(()) }
    }
}

impl Inner {
    /// Sends a statement; `run` is executed by the server in one step.
    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut StoreServer) -> T + Send + 'static,
    ) -> Result<T, Lost<T>> {
        let store = self.store.clone();
        let execute = move |_| {
            let answer = run(&mut lock(&store.server));
            store.ended.notify_waiters();
            answer
        };
        wire::call(&self.world, &self.process, Link::Store, execute).await
    }

    /// Sends a statement that has no effect before the transaction is committed.
    async fn pass(&self, name: &str) -> Result<(), StoreError> {
        if self.world.chance(0.002) {
            return Err(StoreError::Conflict("a serialization failure".into()));
        }
        let passed = wire::call(&self.world, &self.process, Link::Store, |_| ()).await;
        passed.map_err(|_| StoreError::Unavailable(format!("{name}: the connection broke")))
    }

    /// Fails while the store refuses to write.
    fn check_room(&self) -> Result<(), StoreError> {
        if self.world.refuses(Link::Store) {
            return Err(StoreError::Failed("53100: could not extend file: No space left on device".into()));
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.world.elapsed().as_millis() as u64
    }

    /// Notices that the server was replaced since the last transaction: the idle connections are broken.
    fn reconnect(&self) -> Result<(), StoreError> {
        let generation = lock(&self.store.server).generation;
        if self.connected.swap(generation, Ordering::Relaxed) == generation {
            return Ok(());
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        // A connection that was used lately is not tested before it is used.
        if self.world.chance(0.5) { Err(StoreError::Unavailable("the connection is broken".into())) } else { Ok(()) }
    }

    fn generation(&self) -> u64 {
        let removals = lock(&self.store.server).removals;
        match self.planted {
            Some(Planted::CacheOutlivesConnection) => removals,
            _ => removals + self.lost.load(Ordering::Relaxed),
        }
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.world.note(&self.process.label, text);
    }
}

/// A transaction on one connection.
struct ModelTransaction {
    inner: Arc<Inner>,
    id: u64,
    generation: u64,
    /// Whether the connection can be used again, or was handed over.
    ended: bool,
}

impl Drop for ModelTransaction {
    /// The connection is closed. The server notices it at once or later.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.inner.lost.fetch_add(1, Ordering::Relaxed);
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

impl ModelTransaction {
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

    async fn insert_all_receipts(&self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError> {
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
        if !self.insert(Lock::Event(row.key)).await? {
            return Ok(false);
        }
        let stored = StoredRow {
            topic: row.event.topic.to_string(),
            event_id: row.event.event_id.to_string(),
            hash: row.event.payload_hash,
            request: row.request_id,
            inserted_at: self.inner.world.millis(Clock::Store),
        };
        self.open(|open| open.rows.push((row.key, stored)))?;
        Ok(true)
    }
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
        let mut new = HashSet::new();
        for row in rows {
            if self.insert_row(row).await? {
                new.insert(row.key);
            }
        }
        Ok(if new.len() == rows.len() { Inserted::All } else { Inserted::Keys(new) })
    }

    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
        self.inner.pass("look up").await?;
        let server = lock(&self.inner.store.server);
        Ok(keys.iter().filter_map(|key| Some((*key, server.rows.get(key)?.hash))).collect())
    }

    async fn insert_dead_letters(&mut self, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError> {
        self.inner.pass("insert dead letters").await?;
        self.open(|open| open.dead_letters.extend_from_slice(dead_letters))
    }

    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.pass("take a dead letter").await?;
        self.open(|open| open.taken = Some(id))?;
        let content = lock(&self.inner.store.server).dead_letters.get(&id).cloned();
        Ok(content.map(|content| DeadLetter { id, failed_at: sluice_event::Timestamp::now(), content }))
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

    async fn commit(
        mut self: Box<Self>,
        shard: &str,
        counts: &BTreeMap<&str, Counts>,
        _number: Option<Number<'_>>,
    ) -> Result<Option<u64>, StoreError> {
        self.inner.check_room()?;
        let counts: BTreeMap<String, Counts> = counts.iter().map(|(topic, c)| ((*topic).to_owned(), *c)).collect();
        let (world, label) = (self.inner.world.clone(), self.inner.process.label.clone());
        let (id, shard) = (self.id, shard.to_owned());
        let run = move |server: &mut StoreServer| {
            let committed = server.commit(id, &counts);
            world.note(&label, || match &committed {
                Ok(_) => format!("committed transaction {id} of {shard}: {counts:?}"),
                Err(error) => format!("transaction {id} of {shard} is not committed: {error}"),
            });
            committed.map(|violations| violations.into_iter().for_each(|violation| world.violation(violation)))
        };
        let lost = match self.inner.call(run).await {
            Ok(answer) => {
                self.ended = answer.is_ok();
                return answer.map(|()| None);
            }
            Err(Lost::Request) => "the request was lost",
            Err(Lost::Answer(_)) => "the answer was lost",
            Err(Lost::Late) => {
                // The server has the request, and keeps the transaction until it executes it.
                self.ended = true;
                self.inner.lost.fetch_add(1, Ordering::Relaxed);
                "the request is late"
            }
        };
        self.inner.note(|| format!("commit of transaction {id}: {lost}"));
        Err(StoreError::Unavailable("commit: the connection broke".into()))
    }

    async fn rollback(mut self: Box<Self>) {
        let id = self.id;
        // Without an answer the connection counts as lost.
        self.ended = self.inner.call(move |server| server.transactions.end(id)).await.is_ok();
    }
}

#[async_trait]
impl Store for StoreClient {
    fn dedup_cache(&self) -> &DedupCache {
        &self.cache
    }

    async fn begin(&self, receipts: &[ReceiptId]) -> Result<(Box<dyn Transaction>, HashSet<ReceiptId>), StoreError> {
        let inner = &self.inner;
        inner.process.running().await;
        inner.reconnect()?;
        inner.pass("begin").await?;
        if inner.connected.load(Ordering::Relaxed) != lock(&inner.store.server).generation {
            inner.lost.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Unavailable("begin: the connection broke".into()));
        }
        inner.check_room()?;
        let id = {
            let mut server = lock(&inner.store.server);
            let changes = server.changes();
            server.transactions.begin(changes, inner.now())
        };
        let generation = inner.generation();
        let transaction = ModelTransaction { inner: inner.clone(), id, generation, ended: false };
        let new = transaction.insert_all_receipts(receipts).await?;
        inner.note(|| format!("began transaction {id}: {} of {} receipts are new", new.len(), receipts.len()));
        Ok((Box::new(transaction), new))
    }

    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError> {
        let marked = self.inner.call(move |server| server.mark_attempt(position)).await;
        marked.map_err(|_| StoreError::Unavailable("mark_attempt: the connection broke".into()))
    }

    async fn unmark_attempt(&self, position: Position) -> Result<(), StoreError> {
        let unmarked = self.inner.call(move |server| server.unmark_attempt(position)).await;
        unmarked.map_err(|_| StoreError::Unavailable("unmark_attempt: the connection broke".into()))
    }

    async fn events(&self, _: &EventQuery) -> Result<Page, StoreError> {
        not_simulated()
    }

    async fn event(&self, _: &str, _: &str, _: u32) -> Result<Vec<StoredEvent>, StoreError> {
        not_simulated()
    }

    async fn statistics(&self, _: u32) -> Result<Statistics, StoreError> {
        not_simulated()
    }

    async fn topics(&self, _: Option<&str>, _: u32) -> Result<TopicPage, StoreError> {
        not_simulated()
    }

    async fn dead_letters(&self, _: Option<i64>, _: u32) -> Result<Vec<DeadLetter>, StoreError> {
        not_simulated()
    }

    async fn maintain(&self, maintenance: &Maintenance) -> Result<Removed, StoreError> {
        let (world, Maintenance { receipts_ttl, retention, .. }) = (self.inner.world.clone(), *maintenance);
        // The time of one call is over after so many events.
        let max_events = self.inner.world.between(1, 200) as usize;
        let run = move |server: &mut StoreServer| {
            server.maintain(world.millis(Clock::Store), receipts_ttl, retention, max_events)
        };
        let removed = self.inner.call(run).await;
        let (events, more) = removed.map_err(|_| StoreError::Unavailable("maintain: the connection broke".into()))?;
        self.inner.note(|| format!("maintenance removed {events} events"));
        Ok(Removed { events, more, ..Removed::default() })
    }

    fn replays(&self) -> &tokio::sync::Mutex<()> {
        &self.replays
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.pass("ping").await
    }
}
