//! The store in a SQLite file: one connection writes and a few read at the same time (WAL mode). Every commit
//! is on disk when it returns (synchronous FULL).

mod arrival_marks;
mod bounded;
mod bulk;
mod conflicts;
mod erase;
mod errors;
mod feed;
mod insert;
mod inspect;
mod key_partitions;
mod ledger;
mod merge;
mod meters;
mod outcomes;
mod query;
mod readers;
mod retention;
mod schema;
mod schemas;
mod series;
mod snapshot;
mod tombstones;
mod transaction;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{Keyer, ReceiptId};
use sluice_log::Position;
use sluice_log::sqlite::find_damage;
use sluice_meter::Definition;
use sluice_meter::answer::Question;
use sluice_meter::fold::Length;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::sync::Mutex;

use crate::conflicts::ConflictLimits;
use crate::dedup_cache::DedupCache;
use crate::meters::{self as any_meters, MeterFigures, MeterReading, MeterSets, MeterStatus, PutMeter};
use crate::partitions::{Filters, Limits};
use crate::{
    DeadLetter, EventQuery, Maintenance, Page, PartitionFigures, Removed, Statistics, Store, StoreError, StoredEvent,
    TopicPage, Transaction as StoreTransaction,
};
pub use snapshot::{Snapshot, note_audit};

use errors::{QUERY_TIMEOUT, of_statement, within};
use key_partitions::{KeyPartitions, KeySearch, Layouts};
use readers::Readers;
use retention::Retention;
use writer::Writer;

/// Number of connections for lists of events, which may take long; for all other queries; and for the check that the
/// file can be read, which must not wait for any query.
const LISTS: u32 = 2;
const QUERIES: u32 = 2;
const CHECKS: u32 = 1;
/// The number of connections for the maintenance of the partitions of keys, and the longest that it reads in one
/// statement.
const MAINTENANCE: u32 = 1;
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a write waits for another process that has the file locked (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of the page cache in KiB. It is mostly used by pages of the key's index, because keys are random. Other
/// pages are read from the system's cache; if a transaction changes more pages, some are written before it ends.
const CACHE_KIB: i64 = 24 << 10;

/// The page size of a new file. Rows are large, and half as many pages are half as many writes.
const PAGE_BYTES: u32 = 8 << 10;
/// The size of the write-ahead log at which its pages are copied to the database file. Keys are random, so each
/// transaction changes most pages of their index: by then most were changed many times, and are copied once.
const WAL_BYTES: u32 = 64 << 20;
/// How a store uses its file.
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    /// The number of keys of stored events that are cached in memory.
    pub dedup_cache_keys: usize,
    /// The number of keys with which a partition of them is closed. With fewer, a transaction writes fewer pages,
    /// because more of its keys share one; with more, there are fewer filters in which each key is looked up.
    pub partition_keys: u64,
    /// The memory, in bytes, that the filters of closed partitions may take: 2.3 for each event, or half of that where
    /// all of them would not fit. In partitions whose filter does not fit either, every key is looked up.
    pub filter_memory: u64,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { dedup_cache_keys: 1_000_000, partition_keys: 500_000, filter_memory: 64 << 20 }
    }
}

/// The store in a SQLite file.
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    lists: Readers,
    queries: Readers,
    checks: Readers,
    maintenance: Readers,
    layouts: Layouts,
    filters: Filters,
    meter_sets: MeterSets,
    keyer: Keyer,
    dedup_cache: DedupCache,
    retention: Retention,
    partition_keys: u64,
    /// Held by the replay of a dead letter.
    replays: Mutex<()>,
}

impl SqliteStore {
    /// Opens or creates the file and migrates it. `dedup_cache_keys` is the number of keys of stored events that are
    /// cached in memory.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the file cannot be used or was created with other dedup fields,
    /// [`StoreError::Damaged`] if it was not closed and is damaged.
    pub async fn open(path: &Path, keyer: &Keyer, dedup_cache_keys: usize) -> Result<Self, StoreError> {
        Self::open_with(path, keyer, &SqliteSettings { dedup_cache_keys, ..SqliteSettings::default() }).await
    }

    /// Does what [`SqliteStore::open`] does, with all settings.
    ///
    /// # Errors
    /// The same.
    pub async fn open_with(path: &Path, keyer: &Keyer, settings: &SqliteSettings) -> Result<Self, StoreError> {
        if let Some(damage) = find_damage(path).await.map_err(of_statement)? {
            return Err(StoreError::Damaged(damage));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("cache_size", (-CACHE_KIB).to_string())
            .page_size(PAGE_BYTES)
            .pragma("wal_autocheckpoint", (WAL_BYTES / PAGE_BYTES).to_string())
            .pragma("journal_size_limit", WAL_BYTES.to_string())
            .statement_cache_capacity(64)
            .disable_statement_logging();
        let mut writer = Writer::new(options);
        schema::prepare(writer.connection().await?, keyer).await?;
        let readers = |max_connections, timeout| Readers::new(path, max_connections, timeout);
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self {
            retention: Retention::new(Arc::clone(&writer)),
            writer,
            lists: readers(LISTS, QUERY_TIMEOUT),
            queries: readers(QUERIES, QUERY_TIMEOUT),
            checks: readers(CHECKS, QUERY_TIMEOUT),
            maintenance: readers(MAINTENANCE, MAINTENANCE_TIMEOUT),
            layouts: Layouts::default(),
            filters: Filters::new(settings.filter_memory),
            meter_sets: MeterSets::default(),
            keyer: keyer.clone(),
            partition_keys: settings.partition_keys,
            dedup_cache: DedupCache::new(settings.dedup_cache_keys),
            replays: Mutex::default(),
        })
    }

    /// Closes the file, after the transaction that is being written.
    pub async fn close(&self) {
        for readers in [&self.lists, &self.queries, &self.checks, &self.maintenance] {
            readers.close().await;
        }
        self.writer.lock().await.close().await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn dedup_cache(&self) -> &DedupCache {
        &self.dedup_cache
    }

    async fn begin(
        &self,
        receipts: &[ReceiptId],
    ) -> Result<(Box<dyn StoreTransaction>, HashSet<ReceiptId>), StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        let last_seq = writer.begin().await?;
        let generation = self.retention.removals();
        let (layout, first_seq) = self.layouts.of(writer.current().await?).await?;
        let keys = KeySearch::new(layout, self.filters.loaded(), first_seq, last_seq);
        let meters = meters::in_force(writer.current().await?, &self.meter_sets).await?;
        let mut transaction = transaction::Transaction::new(writer, last_seq, keys, generation, meters);
        let new = transaction.insert_receipts(receipts).await?;
        Ok((Box::new(transaction), new))
    }

    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        transaction::mark_attempt(writer.connection().await?, position).await
    }

    async fn unmark_attempt(&self, position: Position) -> Result<(), StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        transaction::unmark_attempt(writer.connection().await?, position).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page, StoreError> {
        within(async { query::events(&mut *self.lists.lease().await?, &self.keyer, query).await }).await
    }

    async fn event(&self, topic: &str, event_id: &str, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let places = (&self.layouts, &self.filters);
        within(async {
            let mut reader = self.queries.lease().await?;
            query::event(&mut reader, places, &self.keyer, topic, event_id, limit).await
        })
        .await
    }

    async fn statistics(&self, max_topics: u32) -> Result<Statistics, StoreError> {
        within(async { query::statistics(&mut *self.queries.lease().await?, max_topics).await }).await
    }

    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError> {
        within(async { query::topics(&mut *self.queries.lease().await?, after, limit).await }).await
    }

    async fn dead_letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        within(async { query::dead_letters(&mut *self.queries.lease().await?, before, limit).await }).await
    }

    async fn maintain(&self, maintenance: &Maintenance) -> Result<Removed, StoreError> {
        self.retention.maintain(maintenance).await
    }

    async fn maintain_partitions(&self, retention: Option<Duration>) -> Result<Option<PartitionFigures>, StoreError> {
        let partitions = KeyPartitions {
            writer: &self.writer,
            readers: &self.maintenance,
            layouts: &self.layouts,
            filters: &self.filters,
        };
        partitions.maintain(Limits { rows: self.partition_keys, retention }).await
    }

    async fn maintain_series(&self, retention: Option<Duration>) -> Result<(), StoreError> {
        series::maintain(&self.writer, retention).await
    }

    async fn maintain_conflicts(&self, limits: ConflictLimits) -> Result<(), StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        conflicts::remove(writer.connection().await?, limits).await
    }

    async fn meters(&self) -> Result<Vec<MeterStatus>, StoreError> {
        within(async { Ok(MeterStatus::of_all(meters::read(&mut *self.queries.lease().await?).await?)) }).await
    }

    async fn put_meter(&self, name: &str, definition: &Definition) -> Result<PutMeter, StoreError> {
        any_meters::put(&mut meters::Tables::new(&self.writer, &self.keyer), name, definition).await
    }

    async fn delete_meter(&self, name: &str) -> Result<bool, StoreError> {
        any_meters::delete(&mut meters::Tables::new(&self.writer, &self.keyer), name).await
    }

    async fn read_meter(&self, id: i64, length: Length, question: Question) -> Result<MeterReading, StoreError> {
        within(async { meters::answer(&mut *self.lists.lease().await?, id, length, question).await }).await
    }

    async fn maintain_meters(&self) -> Result<Option<MeterFigures>, StoreError> {
        any_meters::maintain(&mut meters::Tables::new(&self.writer, &self.keyer)).await
    }

    fn replays(&self) -> &Mutex<()> {
        &self.replays
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ping = async {
            let mut reader = self.checks.lease().await?;
            sqlx::query("SELECT 1").execute(&mut *reader).await.map(|_| ()).map_err(of_statement)
        };
        within(ping).await
    }
}
