//! The store on PostgreSQL.
//!
//! All tables are in one schema, so that two resources can share a database. Commits, lists of events, other
//! queries, maintenance and probes have separate connections, so that none can use up those of another.

mod address;
mod arrival_marks;
mod backup;
mod bounded;
mod conflicts;
mod connections;
mod copy;
mod counters;
mod durability;
mod erase;
mod errors;
mod event_partitions;
mod feed;
mod hosts;
mod insert;
mod insert_strategy;
mod inspect;
mod ledger;
mod locks;
mod marked_store;
mod marks;
mod merge;
mod meters;
mod outcomes;
mod overdue;
mod partition_steps;
mod password;
mod pooler;
mod query;
mod receipts;
mod removals;
mod restored;
mod retention;
mod schema;
mod schemas;
mod series;
mod session;
mod settings;
mod size;
mod snapshot;
mod sqlstate;
mod stuck_sessions;
mod timestamptz;
mod tombstones;
mod transaction;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::ReceiptId;
use sluice_log::Position;
use sluice_meter::Definition;
use sluice_meter::answer::Question;
use sluice_meter::fold::Length;
use sluice_service::durability::Durability;
use sluice_service::encryption::Encryption;

pub use address::check_connection;
pub use backup::{BackupFacts, backup_facts};
pub use durability::DURABILITY_SETTINGS;
pub use password::check_password_file;
pub use schema::migrate;
pub use settings::{PayloadType, PostgresSettings};
pub use snapshot::{Snapshot, note_audit};

use crate::conflicts::ConflictLimits;
use crate::dedup_cache::DedupCache;
use crate::meters::{MeterFigures, MeterReading, MeterSets, MeterStatus, PutMeter};
use crate::partitions::{self, Filters, Layouts, Limits};
use crate::retention_clock::RetentionClock;
use crate::{
    DeadLetter, EventQuery, Maintenance, Page, PartitionFigures, Removed, Statistics, Store, StoreError, StoredEvent,
    TopicPage, Transaction as StoreTransaction,
};
use address::Address;
use connections::{Connections, Lease};
use event_partitions::{Tables, remove};
use insert::BatchTarget;
use insert_strategy::InsertStrategies;
use partition_steps::PartitionSteps;
use removals::{Removals, generation};
use schema::Schema;
use session::{QUERY_TIMEOUT, Session};
use transaction::Begun;

/// Number of connections for maintenance: one call at a time uses one.
const MAINTENANCE: u32 = 1;
/// Number of connections for probes and marks of attempts: a probe while a mark is being written.
const CHECKS: u32 = 2;

/// The size of the receipts before it was first measured.
const UNKNOWN: u64 = u64::MAX;

/// The store on PostgreSQL.
pub struct PostgresStore {
    settings: PostgresSettings,
    durability: Durability,
    encryption: Encryption,
    commits: Connections,
    /// For lists of events, which may look at many rows.
    lists: Connections,
    /// For all other queries of the API.
    queries: Connections,
    maintenance: Connections,
    /// For probes, and for the marks of attempts, without which entries that other replicas left cannot be recovered.
    checks: Connections,
    /// The settings that the schema was created with, once it is prepared.
    schema: RwLock<Option<Schema>>,
    dedup_cache: DedupCache,
    removals: Removals,
    /// Held by the replay of a dead letter.
    replays: tokio::sync::Mutex<()>,
    /// How many sessions that were stuck in COPY this process has ended.
    ended_sessions: AtomicU64,
    /// The disk space of the receipts, or [`UNKNOWN`].
    receipts_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    retention_clock: RetentionClock,
    receipt_steps: PartitionSteps,
    event_steps: PartitionSteps,
    /// Held by whatever uses the connection for maintenance, for which others wait as long as it takes: a partition may be
    /// vacuumed for longer than a connection is waited for.
    maintaining: tokio::sync::Mutex<()>,
    layouts: Layouts,
    filters: Filters,
    meter_sets: MeterSets,
    strategies: Arc<InsertStrategies>,
}

impl PostgresStore {
    /// Creates the store. It does not connect yet, so it works while the server is unavailable.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the URL cannot be parsed.
    pub fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let address = Address::new(settings)?;
        address.warn_if_any_name_is_accepted();
        let session =
            Session::commits(settings, &[receipts::PREPARE, counters::PREPARE, series::PREPARE, marks::PREPARE]);
        let durability = Durability::of("PostgreSQL");
        let connections = |max, session| Connections::new(address.clone(), max, session, durability.clone());
        let commits = connections(settings.workers, session);
        let querying = |max| connections(max, Session::queries(settings));
        Ok(Self {
            settings: settings.clone(),
            durability: durability.clone(),
            encryption: address.encryption().clone(),
            commits,
            // At least one, or no list would ever get a connection.
            lists: querying((settings.api_connections / 2).max(1)),
            queries: querying(settings.api_connections.div_ceil(2)),
            maintenance: querying(MAINTENANCE),
            checks: querying(CHECKS),
            schema: RwLock::new(None),
            receipts_bytes: AtomicU64::new(UNKNOWN),
            stored_bytes: AtomicU64::new(UNKNOWN),
            dedup_cache: DedupCache::new(settings.dedup_cache_keys),
            removals: Removals::default(),
            replays: tokio::sync::Mutex::default(),
            ended_sessions: AtomicU64::new(0),
            retention_clock: RetentionClock::default(),
            receipt_steps: PartitionSteps::new(settings.claim_after),
            event_steps: PartitionSteps::new(settings.claim_after),
            maintaining: tokio::sync::Mutex::default(),
            layouts: Layouts::default(),
            filters: Filters::new(settings.filter_memory),
            meter_sets: MeterSets::default(),
            strategies: Arc::default(),
        })
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> Durability {
        self.durability.clone()
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> Encryption {
        self.encryption.clone()
    }

    /// Applies the migrations and checks that the stored events were deduplicated by the same fields. Every
    /// other call does this too if it has not been done; a process calls it at its start to fail early.
    ///
    /// # Errors
    /// Those of [`migrate()`], and [`StoreError::Failed`] if the dedup fields differ.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.schema().await.map(|_| ())
    }

    async fn schema(&self) -> Result<Schema, StoreError> {
        let prepared = self.schema.read().ok().and_then(|schema| *schema);
        if let Some(schema) = prepared {
            return Ok(schema);
        }
        let schema = schema::prepare(&self.settings).await?;
        self.set_schema(Some(schema));
        Ok(schema)
    }

    fn set_schema(&self, schema: Option<Schema>) {
        if let Ok(mut prepared) = self.schema.write() {
            *prepared = schema;
        }
    }

    /// Returns one of these connections, to a schema that is prepared.
    async fn lease(&self, connections: &Connections) -> Result<Lease, StoreError> {
        let lease = connections.lease().await?;
        match tokio::time::timeout(QUERY_TIMEOUT, self.schema()).await {
            Ok(schema) => schema.map(|_| lease),
            Err(_) => Err(StoreError::Unavailable("the schema is being migrated".into())),
        }
    }

    /// Gives the connection back after a success; after an error it is dropped, and so closed.
    fn finish<T>(&self, lease: Lease, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => lease.give_back(),
            Err(_) => self.check_tables(),
        }
        result
    }

    /// Called after a batch waited for a lock in vain: whoever holds it may be stuck for ever.
    async fn end_stuck_sessions(&self) {
        let ended = async {
            let mut lease = self.lease(&self.checks).await?;
            let ended = stuck_sessions::end(&mut lease, &self.settings).await;
            self.finish(lease, ended)
        };
        match ended.await {
            Ok(ended) => _ = self.ended_sessions.fetch_add(ended, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "cannot look for sessions of the database that are stuck"),
        }
    }

    /// Called after an error: if the tables are missing, because the database was created anew, the next
    /// call creates them.
    fn check_tables(&self) {
        // All are asked, so that none reports an old loss later.
        let all = [&self.commits, &self.lists, &self.queries, &self.maintenance, &self.checks];
        if all.map(Connections::take_tables_missing).contains(&true) {
            self.set_schema(None);
            self.removals.count_lost_tables();
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn dedup_cache(&self) -> &DedupCache {
        &self.dedup_cache
    }

    async fn begin(
        &self,
        receipts: &[ReceiptId],
    ) -> Result<(Box<dyn StoreTransaction>, HashSet<ReceiptId>), StoreError> {
        let schema = self.schema().await?;
        if self.commits.take_lock_timed_out() {
            self.end_stuck_sessions().await;
        }
        let begun = async {
            let mut lease = self.commits.lease().await?;
            let begun = transaction::begin(&mut lease, (&self.layouts, &self.meter_sets), receipts).await;
            let Begun { batch, removed_events, layout, meters, has_erasures, new } = match begun {
                Ok(begun) => begun,
                Err(error) => {
                    if error.leaves_connection_usable() {
                        lease.roll_back().await;
                    }
                    return Err(error);
                }
            };
            let generation = generation(lease.generation(), self.removals.observe(removed_events));
            let payload = schema.payload_type.column(layout.open().is_some());
            let target = BatchTarget { table: layout.open_table(), payload, batch, has_erasures };
            let places = (layout, self.filters.loaded());
            let strategies = Arc::clone(&self.strategies);
            let transaction = transaction::Transaction::new(lease, target, places, meters, generation, strategies);
            Ok((Box::new(transaction) as Box<dyn StoreTransaction>, new))
        };
        begun.await.inspect_err(|_| self.check_tables())
    }

    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let attempts = transaction::mark_attempt(&mut lease, position).await;
        self.finish(lease, attempts)
    }

    async fn unmark_attempt(&self, position: Position) -> Result<(), StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let unmarked = transaction::unmark_attempt(&mut lease, position).await;
        self.finish(lease, unmarked)
    }

    async fn events(&self, query: &EventQuery) -> Result<Page, StoreError> {
        let mut lease = self.lease(&self.lists).await?;
        match query::events(&mut lease, &self.layouts, &self.settings.keyer, query).await {
            Ok((page, true)) => self.finish(lease, Ok(page)),
            // The connection is closed: reading the rest of the answer could take longer than a new one.
            Ok((page, false)) => Ok(page),
            Err(error) => self.finish(lease, Err(error)),
        }
    }

    async fn event(&self, topic: &str, event_id: &str, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let rules = (&self.settings.keyer, self.schema().await?.payload_type);
        let mut lease = self.lease(&self.queries).await?;
        let events = query::event(&mut lease, (&self.layouts, &self.filters), rules, topic, event_id, limit).await;
        self.finish(lease, events)
    }

    async fn statistics(&self, max_topics: u32) -> Result<Statistics, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let statistics = query::statistics(&mut lease, max_topics).await;
        self.finish(lease, statistics)
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let topics = query::topics(&mut lease, after, limit).await;
        self.finish(lease, topics)
    }

    async fn fold_counters(&self, consumers: &[String]) -> Result<u64, StoreError> {
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let folded = counters::fold(&mut lease, &self.settings.schema, consumers).await;
        self.finish(lease, folded)
    }

    async fn maintain_series(&self, retention: Option<Duration>) -> Result<(), StoreError> {
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let maintained = series::maintain(&mut lease, &self.settings.schema, retention).await;
        self.finish(lease, maintained)
    }

    async fn maintain_conflicts(&self, limits: ConflictLimits) -> Result<(), StoreError> {
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let maintained = conflicts::remove(&mut lease, limits).await;
        self.finish(lease, maintained)
    }

    async fn meters(&self) -> Result<Vec<MeterStatus>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let result = meters::status(&mut lease).await;
        self.finish(lease, result)
    }

    async fn put_meter(&self, name: &str, definition: &Definition) -> Result<PutMeter, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let result = meters::put(&mut lease, &self.settings, name, definition).await;
        self.finish(lease, result)
    }

    async fn delete_meter(&self, name: &str) -> Result<bool, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let result = meters::delete(&mut lease, &self.settings, name).await;
        self.finish(lease, result)
    }

    async fn read_meter(&self, id: i64, length: Length, question: Question) -> Result<MeterReading, StoreError> {
        let mut lease = self.lease(&self.lists).await?;
        let result = meters::answer(&mut lease, id, length, question).await;
        self.finish(lease, result)
    }

    async fn maintain_meters(&self) -> Result<Option<MeterFigures>, StoreError> {
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let maintained = meters::maintain(&mut lease, &self.settings).await;
        self.finish(lease, maintained)
    }

    async fn dead_letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let dead_letters = query::dead_letters(&mut lease, before, limit).await;
        self.finish(lease, dead_letters)
    }

    async fn maintain(&self, maintenance: &Maintenance) -> Result<Removed, StoreError> {
        let payload = self.schema().await?.payload_type;
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let schema = &self.settings.schema;
        let removed = async {
            receipts::maintain(&mut lease, schema, &self.receipt_steps, maintenance.receipts_ttl).await?;
            self.receipts_bytes.store(receipts::size(&mut lease).await?, Ordering::Relaxed);
            self.stored_bytes.store(size::of_schema(&mut lease, schema).await?, Ordering::Relaxed);
            let layout = self.layouts.read(&mut lease).await?;
            let removed = retention::maintain(&mut lease, schema, &self.retention_clock, &layout, maintenance).await?;
            if layout.open().is_some() {
                remove::drop_tables(&mut lease, schema, &self.event_steps, payload).await?;
            }
            Ok(removed)
        }
        .await;
        self.finish(lease, removed)
    }

    async fn maintain_partitions(&self, retention: Option<Duration>) -> Result<Option<PartitionFigures>, StoreError> {
        let payload = self.schema().await?.payload_type;
        let _maintaining = self.maintaining.lock().await;
        let mut lease = self.lease(&self.maintenance).await?;
        let limits = Limits { rows: self.settings.partition_rows, retention };
        let (schema, steps) = (&self.settings.schema, &self.event_steps);
        let mut tables = Tables { lease: &mut lease, schema, steps, payload };
        let maintained = partitions::maintain(&mut tables, &self.layouts, &self.filters, limits).await;
        self.finish(lease, maintained)
    }

    fn replays(&self) -> &tokio::sync::Mutex<()> {
        &self.replays
    }

    fn ended_sessions(&self) -> u64 {
        self.ended_sessions.load(Ordering::Relaxed)
    }

    fn receipts_bytes(&self) -> Option<u64> {
        Some(self.receipts_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes != UNKNOWN)
    }

    fn stored_bytes(&self) -> Option<u64> {
        Some(self.stored_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes != UNKNOWN)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let pong = lease.check_durability(&self.durability).await;
        self.finish(lease, pong)
    }
}
