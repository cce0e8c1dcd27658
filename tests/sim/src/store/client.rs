//! What a process uses of the model store: the trait of the aggregators.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::ReceiptId;
use sluice_log::Position;
use sluice_store::dedup_cache::DedupCache;
use sluice_store::partitions::{self, Filters, Layouts, Limits};
use sluice_store::{
    DeadLetter, EventQuery, Maintenance as TimeLimits, Page, PartitionFigures, Removed, Statistics, Store, StoreError,
    StoredEvent, TopicPage, Transaction,
};

use super::batch::ModelTransaction;
use super::connections::Connections;
use super::events::not_simulated;
use super::partitions::Maintenance;

/// What a process uses of the store.
pub struct StoreClient {
    connections: Arc<Connections>,
    cache: DedupCache,
    replays: tokio::sync::Mutex<()>,
    /// Held by whatever uses the connection for maintenance.
    maintaining: tokio::sync::Mutex<()>,
    layouts: Layouts,
    filters: Filters,
}

impl StoreClient {
    /// Returns a store on these connections, with a cache of so many keys, and so many bytes for filters.
    pub fn new(connections: Arc<Connections>, keys: usize, filter_memory: u64) -> Self {
        Self {
            connections,
            cache: DedupCache::new(keys),
            replays: tokio::sync::Mutex::new(()),
            maintaining: tokio::sync::Mutex::new(()),
            layouts: Layouts::default(),
            filters: Filters::new(filter_memory),
        }
    }

    /// Returns the connections.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }
}

#[async_trait]
impl Store for StoreClient {
    fn dedup_cache(&self) -> &DedupCache {
        &self.cache
    }

    async fn begin(&self, receipts: &[ReceiptId]) -> Result<(Box<dyn Transaction>, HashSet<ReceiptId>), StoreError> {
        let inner = &self.connections;
        let lease = inner.lease().await?;
        if let Err(error) = inner.pass("begin").await {
            if matches!(error, StoreError::Conflict(_)) {
                lease.give_back();
            }
            return Err(error);
        }
        inner.check_room()?;
        let (mut transaction, version) = ModelTransaction::begin(inner, lease, self.filters.loaded()).await?;
        let begun = async {
            let new = transaction.insert_all_receipts(receipts).await?;
            transaction.find_layout(&self.layouts, &self.filters, &version).await?;
            Ok(new)
        };
        let new = match begun.await {
            Err(error @ StoreError::Conflict(_)) => {
                Box::new(transaction).rollback().await;
                return Err(error);
            }
            begun => begun?,
        };
        let id = transaction.id();
        inner.note(|| format!("began transaction {id}: {} of {} receipts are new", new.len(), receipts.len()));
        Ok((Box::new(transaction), new))
    }

    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError> {
        self.connections.ask("mark_attempt", move |server| server.mark_attempt(position)).await
    }

    async fn unmark_attempt(&self, position: Position) -> Result<(), StoreError> {
        self.connections.ask("unmark_attempt", move |server| server.unmark_attempt(position)).await
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

    async fn maintain(&self, maintenance: &TimeLimits) -> Result<Removed, StoreError> {
        let TimeLimits { receipts_ttl, retention, .. } = *maintenance;
        let _maintaining = self.maintaining.lock().await;
        let mut connection = Maintenance::connect(self.connections.clone()).await?;
        let (events, more) = connection.remove(receipts_ttl, retention).await?;
        Ok(Removed { events, more, ..Removed::default() })
    }

    async fn maintain_partitions(&self, retention: Option<Duration>) -> Result<Option<PartitionFigures>, StoreError> {
        let _maintaining = self.maintaining.lock().await;
        let mut connection = Maintenance::connect(self.connections.clone()).await?;
        let limits = Limits { rows: self.connections.store.partition_rows, retention };
        partitions::maintain(&mut connection, &self.layouts, &self.filters, limits).await
    }

    fn replays(&self) -> &tokio::sync::Mutex<()> {
        &self.replays
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connections.pass("ping").await
    }
}
