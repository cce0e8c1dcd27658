//! Where events and statistics are kept.
//!
//! [`Store`] is the trait that PostgreSQL ([`postgres`]) and SQLite ([`sqlite`]) implement, and one
//! test suite runs against both. What makes the effect exactly once is written once, in
//! [`commit`], on top of the few steps of a [`Transaction`]: a backend only knows SQL.

mod arrivals;
pub mod commit;
pub mod dedup_cache;
mod isolate;
mod page;
pub mod postgres;
pub mod sqlite;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{Event, EventKey, Keyer, PayloadHash, ReceiptId, RequestId, Timestamp};
use sluice_log::Position;

use dedup_cache::DedupCache;

/// How a batch is stored.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// What makes two events the same.
    pub keyer: Keyer,
    /// Whose counters are added to: `replica/worker`, so that no two transactions share a row.
    pub shard: String,
    /// Whether each dropped duplicate gets a row in the audit trail.
    pub audit: bool,
}

/// What can go wrong with a store. Database codes are mapped to these at its edge.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data itself is refused, and will be again: a violated constraint, a value that the
    /// column's type does not take.
    #[error("refused ({code}): {message}")]
    Refused {
        /// The database's code: an SQLSTATE, or SQLite's extended result code.
        code: String,
        /// What the database says.
        message: String,
    },
    /// Another transaction was in the way (deadlock, serialization, lock time-out): repeat.
    #[error("in the way of another transaction: {0}")]
    Conflict(String),
    /// It cannot be reached or does not answer. Whether a commit happened is unknown; repeating
    /// is safe, since the receipts tell.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Neither the data nor a passing state: a missing table, a missing right, a full disk.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// A store made by other dedup fields has other keys: nothing in it would be recognised.
fn check_dedup_fields(stored: &str, wanted: &str) -> Result<(), StoreError> {
    if stored == wanted {
        return Ok(());
    }
    Err(StoreError::Failed(format!(
        "the stored events were deduplicated by {stored}, and the settings say {wanted}: they would not be \
         recognised. Set the dedup fields to {stored}, or use another schema or folder"
    )))
}

/// A row to insert.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The dedup key.
    pub key: EventKey,
    /// Its place in the batch, in stream order: what `seq` grows with.
    pub ordinal: u32,
    /// The event.
    pub event: &'a Event<'a>,
    /// When the publisher took it.
    pub received_at: Timestamp,
    /// The request it came with.
    pub request_id: RequestId,
    /// What to expect of it. Only a matter of speed.
    pub hint: Hint,
}

/// What is expected of a row before it is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nothing is known of its key: most such rows are new, or all.
    New,
    /// Its key was stored by this process some time ago: most such rows are stored, though it may be that
    /// none is.
    SeenBefore,
    /// Its key is being inserted by another transaction, or nothing at all may be expected.
    UseOnConflict,
}

/// What was counted of a topic. `received = unique + duplicates` holds in every committed state,
/// though each is counted on its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that arrived: each sending counts, a redelivery inside the system does not.
    pub received: u64,
    /// Events stored.
    pub unique: u64,
    /// Events dropped because their key was stored already.
    pub duplicates: u64,
    /// Of the duplicates, those whose payload differs from the stored one.
    pub conflicts: u64,
}

/// A dropped duplicate, for the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// The dedup key.
    pub key: EventKey,
    /// The request that sent it again.
    pub request_id: RequestId,
    /// Whether its payload differs from the stored one.
    pub conflict: bool,
}

/// Something that could not be stored, put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// Where its entry stood in the log.
    pub position: Position,
    /// Topic and event id, where it is one event; none where it is a whole entry.
    pub event: Option<(String, String)>,
    /// How many events it holds.
    pub events: u64,
    /// The database's code, or `undecodable`, `kills_its_reader`.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// A packed entry (`sluice_event::entry`) that holds it: what a replay decodes.
    pub body: Vec<u8>,
}

/// A dead letter as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id: grows with time.
    pub id: i64,
    /// When it was put aside.
    pub failed_at: Timestamp,
    /// What it is.
    pub letter: NewDeadLetter,
}

/// Which rows an insert found new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// All of them.
    All,
    /// Only these keys; the others were stored already.
    Keys(HashSet<EventKey>),
}

impl Inserted {
    /// Whether the row with this key was inserted.
    pub fn contains(&self, key: &EventKey) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(key),
        }
    }
}

/// The steps of the one transaction that stores a batch. Dropped without [`Transaction::commit`]
/// it is rolled back. After an error only `rollback_to_savepoint` may follow.
#[async_trait]
pub trait Transaction: Send {
    /// Grows whenever something that was committed may be gone: after a lost connection, which may
    /// have been a failover, and after rows were removed.
    fn generation(&self) -> u64;

    /// Records receipts; answers those that were not there yet. `ids` are sorted and unique.
    /// Waits for a transaction that is recording one of them, and then sees it.
    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError>;

    /// Whether rows may be inserted in several steps, with a pause between them. Where other processes
    /// insert the same keys, all must go at once, in key order: transactions would wait in a circle.
    fn may_pause(&self) -> bool;

    /// Inserts rows whose key is not stored. `rows` are sorted by key, and keys are unique.
    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError>;

    /// The payload hashes of stored keys, also of those committed since the transaction began.
    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError>;

    /// Puts letters aside.
    async fn insert_dead_letters(&mut self, letters: &[NewDeadLetter]) -> Result<(), StoreError>;

    /// Removes a dead letter, locked against a second replay; `None` when there is none (any more).
    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError>;

    /// Adds to the audit trail.
    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError>;

    /// Forgets the attempts marked for an entry ([`Store::mark_attempt`]).
    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError>;

    /// Sets the savepoint (one, set anew each time).
    async fn savepoint(&mut self) -> Result<(), StoreError>;

    /// Goes back to the savepoint, and removes it.
    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError>;

    /// Removes the savepoint, keeping what was done since.
    async fn release_savepoint(&mut self) -> Result<(), StoreError>;

    /// Adds to the counters of `(topic, shard)`, last, since their rows are what concurrent
    /// transactions would wait for; and commits. After an error the outcome is unknown.
    async fn commit(self: Box<Self>, shard: &str, counts: &BTreeMap<&str, Counts>) -> Result<(), StoreError>;
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the order of arrival.
    pub seq: i64,
    /// As sent, or `default`.
    pub topic: String,
    /// As sent.
    pub event_id: String,
    /// As sent, in UTC.
    pub timestamp: Timestamp,
    /// As sent.
    pub source: Option<String>,
    /// JSON text, as sent.
    pub payload: String,
    /// When the publisher took it.
    pub received_at: Timestamp,
    /// The request it came with.
    pub request_id: RequestId,
}

/// Which events to list: newest arrival first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only this source.
    pub source: Option<String>,
    /// Only with a timestamp at or after it.
    pub since: Option<Timestamp>,
    /// Only with a timestamp before it.
    pub until: Option<Timestamp>,
    /// Only with a smaller `seq`: where the page before ended.
    pub before: Option<i64>,
    /// At most so many; a page of large events may hold fewer and still have a next one.
    pub limit: u32,
}

/// A page of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, newest first.
    pub events: Vec<StoredEvent>,
    /// [`EventQuery::before`] of the next page; `None` when there are no more.
    pub next: Option<i64>,
}

/// All statistics, of one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Per topic.
    pub topics: BTreeMap<String, Counts>,
    /// Events in dead letters now.
    pub dead_lettered: u64,
    /// The oldest moment of arrival back to which duplicates are recognised; `None` is unlimited.
    pub dedup_horizon: Option<Timestamp>,
}

/// What maintenance has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// Receipts older than this go, by the store's clock: how long an `Idempotency-Key` is
    /// honoured plus the age of the oldest entry in any stream.
    pub receipts_ttl: Duration,
    /// Events that arrived longer ago than this go; `None` keeps them for ever.
    pub retention: Option<Duration>,
}

/// Events, statistics, receipts and dead letters.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Keys that this process knows to be stored.
    fn dedup_cache(&self) -> &DedupCache;

    /// Begins the transaction that stores a batch, with what [`Transaction::insert_receipts`] does and
    /// answers: together they are one round trip.
    async fn begin(&self, receipts: &[ReceiptId]) -> Result<(Box<dyn Transaction>, HashSet<ReceiptId>), StoreError>;

    /// Marks, in a transaction of its own, that the entry is about to be tried; answers how often
    /// it has been marked.
    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError>;

    /// A page of events.
    async fn events(&self, query: &EventQuery) -> Result<Page, StoreError>;

    /// The events with this topic and id, first stored first: one, or with other dedup fields
    /// maybe several; at most `limit`.
    async fn event(&self, topic: &str, event_id: &str, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// All statistics, of one snapshot.
    async fn statistics(&self) -> Result<Statistics, StoreError>;

    /// Dead letters, newest first, with ids below `before`.
    async fn dead_letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Removes, in bounded chunks, what is older than it must be kept; answers how many events
    /// and how many receipts went (receipts by whole partitions may not be counted).
    async fn maintain(&self, maintenance: &Maintenance) -> Result<(u64, u64), StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
