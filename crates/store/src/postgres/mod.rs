//! The store on PostgreSQL.
//!
//! Everything lies in one schema, so that two resources can share a database. Connections for
//! commits and connections for queries are apart, so that neither starves the other.

mod connections;
mod copy;
mod counters;
mod errors;
mod insert;
mod insert_strategy;
mod locks;
mod query;
mod receipts;
mod retention;
mod schema;
mod timestamptz;
mod transaction;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{Keyer, ReceiptId};
use sluice_log::Position;
use sqlx::postgres::PgConnectOptions;

pub use schema::migrate;

use crate::dedup_cache::DedupCache;
use crate::{
    DeadLetter, EventQuery, Maintenance, Page, Statistics, Store, StoreError, StoredEvent,
    Transaction as StoreTransaction,
};
use connections::{Connections, Lease, Session};
use insert::BatchTarget;
use insert_strategy::InsertStrategies;
use schema::Schema;

/// The type of the payload's column, chosen when the schema is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PayloadType {
    /// Kept exactly as sent.
    #[default]
    Json,
    /// Parsed once: quick to query, but numbers, white space and the order of members are normalised.
    Jsonb,
}

/// As in settings: `json` or `jsonb`.
impl FromStr for PayloadType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "jsonb" => Ok(Self::Jsonb),
            other => Err(format!("unknown payload type `{other}`: use json or jsonb")),
        }
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        })
    }
}

/// How to reach the database and what to keep in it.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`
    pub url: String,
    /// The schema that holds everything.
    pub schema: String,
    /// Connections for commits: one per worker.
    pub workers: u32,
    /// Connections for queries and maintenance.
    pub api_connections: u32,
    /// After how long a stuck replica's entries are claimed: no transaction of it may live longer,
    /// so every time-out is below it.
    pub claim_after: Duration,
    /// The payload's type, if the schema is created now.
    pub payload_type: PayloadType,
    /// Keys of stored events kept in memory.
    pub dedup_cache_keys: usize,
    /// What makes two events the same; a schema remembers what it was created with.
    pub keyer: Keyer,
    /// This replica's name, for `pg_stat_activity`.
    pub replica: String,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            schema: "sluice".to_owned(),
            workers: 2,
            api_connections: 4,
            claim_after: Duration::from_secs(30),
            payload_type: PayloadType::default(),
            dedup_cache_keys: 1_000_000,
            keyer: Keyer::default(),
            replica: String::new(),
        }
    }
}

/// The store on PostgreSQL.
pub struct PostgresStore {
    settings: PostgresSettings,
    commits: Connections,
    queries: Connections,
    /// What the schema was created with, once it has been seen.
    schema: RwLock<Option<Schema>>,
    dedup_cache: DedupCache,
    /// How often rows were removed.
    removals: AtomicU64,
    strategies: Arc<InsertStrategies>,
}

/// The longest that a query of the API may run.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

impl PostgresStore {
    /// Does not connect yet, so it works while Postgres is away. Fails on a URL that is none.
    pub fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let options = options(settings)?;
        let commits = Connections::new(options.clone(), settings.workers, &Session::commits(settings));
        let queries = Connections::new(options, settings.api_connections, &Session::queries(settings));
        Ok(Self {
            settings: settings.clone(),
            commits,
            queries,
            schema: RwLock::new(None),
            dedup_cache: DedupCache::new(settings.dedup_cache_keys),
            removals: AtomicU64::new(0),
            strategies: Arc::default(),
        })
    }

    /// Applies the migrations and checks that what is stored was made by the same dedup fields. Every
    /// other call does it too where it has not been done; a start does it first, to fail early.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.schema().await.map(|_| ())
    }

    async fn schema(&self) -> Result<Schema, StoreError> {
        let known = self.schema.read().ok().and_then(|schema| *schema);
        if let Some(schema) = known {
            return Ok(schema);
        }
        let schema = schema::prepare(&self.settings).await?;
        self.remember(Some(schema));
        Ok(schema)
    }

    fn remember(&self, schema: Option<Schema>) {
        if let Ok(mut known) = self.schema.write() {
            *known = schema;
        }
    }

    /// A connection for a query, to a schema that is ready.
    async fn query(&self) -> Result<(Schema, Lease), StoreError> {
        let lease = self.queries.lease().await?;
        match tokio::time::timeout(QUERY_TIMEOUT, self.schema()).await {
            Ok(schema) => Ok((schema?, lease)),
            Err(_) => Err(StoreError::Unavailable("the schema is being migrated".into())),
        }
    }

    /// Gives the connection back after a success.
    fn done<T>(&self, lease: Lease, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => lease.give_back(),
            Err(error) => self.failed(error),
        }
        result
    }

    /// Where the schema turns out to be gone (a database made anew), it is created by the next call.
    fn failed(&self, error: &StoreError) {
        if errors::is_missing_table(error) {
            self.remember(None);
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The connection options that a URL stands for.
fn options(settings: &PostgresSettings) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions = settings
        .url
        .parse()
        .map_err(|error| StoreError::Failed(format!("the database's URL cannot be used: {error}")))?;
    Ok(options.application_name(&format!("sluice {}", settings.replica)))
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
        let begun = async {
            let mut lease = self.commits.lease().await?;
            let (batch, new) = transaction::begin(&mut lease, receipts).await?;
            // Each of the two only grows, and so does their sum.
            let generation = lease.generation() + self.removals.load(Ordering::Acquire);
            let target = BatchTarget { payload_type: schema.payload_type, batch };
            let transaction = transaction::Transaction::new(lease, target, generation, Arc::clone(&self.strategies));
            Ok((Box::new(transaction) as Box<dyn StoreTransaction>, new))
        };
        begun.await.inspect_err(|error| self.failed(error))
    }

    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError> {
        let (_, mut lease) = self.query().await?;
        let savepoint_set = transaction::mark_attempt(&mut lease, position).await;
        self.done(lease, savepoint_set)
    }

    async fn events(&self, query: &EventQuery) -> Result<Page, StoreError> {
        let (_, mut lease) = self.query().await?;
        let page = query::events(&mut lease, query).await;
        self.done(lease, page)
    }

    async fn event(&self, topic: &str, event_id: &str, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let (_, mut lease) = self.query().await?;
        let events = query::event(&mut lease, &self.settings.keyer, topic, event_id, limit).await;
        self.done(lease, events)
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        let (_, mut lease) = self.query().await?;
        let statistics = query::statistics(&mut lease).await;
        self.done(lease, statistics)
    }

    async fn dead_letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let (_, mut lease) = self.query().await?;
        let letters = query::dead_letters(&mut lease, before, limit).await;
        self.done(lease, letters)
    }

    async fn maintain(&self, maintenance: &Maintenance) -> Result<(u64, u64), StoreError> {
        let (_, mut lease) = self.query().await?;
        let schema = &self.settings.schema;
        let done = async {
            receipts::maintain(&mut lease, schema, maintenance.receipts_ttl).await?;
            // Receipts go by whole partitions, uncounted.
            let events = retention::maintain(&mut lease, schema, maintenance).await;
            // It may fail with some of them gone.
            if !matches!(events, Ok(0)) {
                self.removals.fetch_add(1, Ordering::AcqRel);
            }
            Ok((events?, 0))
        }
        .await;
        self.done(lease, done)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let (_, mut lease) = self.query().await?;
        let pong = lease.ping().await;
        self.done(lease, pong)
    }
}
