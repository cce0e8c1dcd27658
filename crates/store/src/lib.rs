//! The store of events and statistics.
//!
//! [`Store`] is the trait that PostgreSQL ([`postgres`]) and SQLite ([`sqlite`]) implement, and one
//! test suite runs against both. The logic that makes the effect exactly once is written once, in
//! [`mod@commit`], on top of the few steps of a [`Transaction`]: a backend contains only SQL.

mod arrivals;
mod bounded;
pub mod commit;
pub mod conflicts;
mod damage;
pub mod dedup_cache;
pub mod erase;
mod erased;
pub mod feed;
pub mod inspect;
mod isolate;
pub mod ledger;
mod maintenance;
pub mod marks;
pub mod meters;
mod numbering;
pub mod outcomes;
mod overdue;
pub mod page;
pub mod partitions;
pub mod postgres;
pub mod put_aside;
mod read;
mod retention_clock;
pub mod schemas;
pub mod series;
pub mod sqlite;
mod topics;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{Event, EventKey, Keyer, PayloadHash, ReceiptId, RequestId, Timestamp};
use sluice_log::Position;
use sluice_meter::answer::Question;
use sluice_meter::fold::Length;
use sluice_meter::{Definition, Set};

use conflicts::{ConflictLimits, NewConflict};
pub use damage::{DamagedRow, HashedRow, RowCheck, row_matches_its_hashes};
use dedup_cache::DedupCache;
use ledger::LedgerRow;
pub use maintenance::{Maintenance, PartitionFigures, Removed};
use meters::{MeterFigures, MeterReading, MeterStatus, PutMeter};
use numbering::{Number, Numbering, StoredMarks};
use outcomes::RequestOutcome;
pub use overdue::{DuePartition, Overdue};
pub use read::{Counts, EventQuery, Page, Statistics, StoredEvent, TopicPage};
use series::BatchCounts;
pub use topics::{Patterns, TopicSelection};

/// How a batch is stored.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Computes the dedup keys.
    pub keyer: Keyer,
    /// The shard of the counters, `replica/worker`, so that concurrent transactions do not share a row.
    pub shard: String,
    /// Whether a row is added to the audit trail for each dropped duplicate.
    pub audit: bool,
    /// How commits are numbered; `None` does not number them.
    pub numbering: Option<Numbering>,
}

/// The errors of a store. Each backend maps the codes of its database to these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data is refused, and would be refused again: a violated constraint, or a value that the column's
    /// type does not accept.
    #[error("refused ({code}): {message}")]
    Refused {
        /// The database's error code: an SQLSTATE, or `SQLITE_` and SQLite's extended result code. Text, because
        /// it is stored with the dead letter.
        code: String,
        /// The database's error message.
        message: String,
    },
    /// Another transaction prevented this one (deadlock, serialization failure, lock time-out): repeating
    /// helps.
    #[error("conflict with another transaction: {0}")]
    Conflict(String),
    /// A statement took longer than it may and was ended by the database. Repeating it helps only if it has less to
    /// do, or if the database was overloaded.
    #[error("the statement took too long: {0}")]
    TooSlow(String),
    /// The database cannot be reached or does not answer. Whether a commit happened is unknown; repeating it
    /// is safe, because the receipts tell.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk of the database is full. Repeating helps once somebody has made room.
    #[error("the disk of the store is full: {0}")]
    DiskFull(String),
    /// The database reports that its files are damaged. Repeating does not help.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The database has lost commits whose entries were acknowledged: another server has become the primary, or a
    /// backup was restored. The entries have to be stored again before anything else.
    #[error("the store has lost commits: {0}")]
    Behind(String),
    /// Any other error, which is neither due to the data nor temporary: a missing table, a missing permission.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Returns whether the database answered and did nothing, so that the connection can be used again.
    fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Conflict(_) | Self::TooSlow(_))
    }
}

/// Fails if the dedup fields differ from those of the stored events: their keys would be different, so that no
/// stored event would be recognised as a duplicate.
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
    /// Its position in the batch, in stream order: `seq` increases with it.
    pub ordinal: u32,
    /// The event.
    pub event: &'a Event<'a>,
    /// When the publisher accepted it.
    pub received_at: Timestamp,
    /// The request it came with.
    pub request_id: RequestId,
    /// What to expect of the key. It affects the speed, not the result.
    pub hint: Hint,
}

/// What is expected of the key of a row before it is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The key is most likely new: this process has no record of it.
    New,
    /// The key is most likely stored: this process stored it some time ago. It is worth a look-up, but not
    /// certain: the record may be wrong, or the row deleted since.
    SeenBefore,
    /// The row must be inserted by a statement that tolerates stored keys: another transaction is inserting
    /// the key, or refused rows are being isolated.
    UseOnConflict,
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

/// A dead letter to store: an event or an entry that the store could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// The position of its entry in the log.
    pub position: Position,
    /// Topic and event id if it is one event; `None` if it is a whole entry.
    pub event: Option<(String, String)>,
    /// Number of events in it.
    pub events: u64,
    /// The database's error code, or `damaged`, `undecodable` or `kills_its_reader`.
    pub code: String,
    /// The reason, as text.
    pub reason: String,
    /// A packed entry ([`sluice_event::entry`]) that contains it, for a replay.
    pub body: Vec<u8>,
    /// The receipts that are stored together with it, if it is a whole entry: a replay stores the requests that have
    /// one of them or none at all, and skips the others. `None` if they are not known; then a replay decides by the
    /// receipts that are stored at that time.
    pub receipts: Option<Vec<ReceiptId>>,
}

/// A dead letter as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id; later ones are greater.
    pub id: i64,
    /// When it was stored.
    pub failed_at: Timestamp,
    /// The dead letter itself.
    pub content: NewDeadLetter,
}

/// Which rows were new when they were inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// All of them.
    All,
    /// Only these keys; the others were stored already.
    Keys(HashSet<EventKey>),
}

impl Inserted {
    /// Returns whether the row with this key was inserted.
    pub fn contains(&self, key: &EventKey) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(key),
        }
    }
}

/// The steps of the transaction that stores a batch. If it is dropped without [`Transaction::commit`], it is
/// rolled back. After an error, only [`Transaction::rollback_to_savepoint`] may follow.
#[async_trait]
pub trait Transaction: Send {
    /// Returns the generation of the store, which increases whenever committed rows may be lost: after a lost
    /// connection, which may mean a failover, and after rows were removed.
    fn generation(&self) -> u64;

    /// Inserts receipts and returns those that were not stored yet. `ids` are sorted and unique. Waits for any
    /// other transaction that is inserting one of them, and then takes its outcome into account.
    async fn insert_receipts(&mut self, ids: &[ReceiptId]) -> Result<HashSet<ReceiptId>, StoreError>;

    /// Returns whether rows may be inserted in several calls with a pause between them. If other processes
    /// insert the same keys, all rows must be inserted in one call, in key order, to avoid deadlocks.
    fn may_pause(&self) -> bool;

    /// Inserts the rows whose keys are not stored. `rows` are sorted by key, and keys are unique.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the database refuses the data of a row.
    async fn insert_events(&mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError>;

    /// Returns the payload hashes of stored keys, including those committed since the transaction began.
    async fn payload_hashes(&mut self, keys: &[EventKey]) -> Result<HashMap<EventKey, PayloadHash>, StoreError>;

    /// Inserts dead letters.
    async fn insert_dead_letters(&mut self, dead_letters: &[NewDeadLetter]) -> Result<(), StoreError>;

    /// Deletes a dead letter and returns it; `None` if there is none (any more). It is locked against a second
    /// replay until the transaction ends.
    async fn take_dead_letter(&mut self, id: i64) -> Result<Option<DeadLetter>, StoreError>;

    /// Adds to the ledger of a shard. The rows are sorted by topic and kind.
    async fn add_to_ledger(&mut self, shard: &str, rows: &[LedgerRow<'_>]) -> Result<(), StoreError>;

    /// Inserts rows into the audit trail.
    async fn insert_audit(&mut self, dropped: &[Dropped]) -> Result<(), StoreError>;

    /// Keeps conflicts, for a while ([`Store::maintain_conflicts`]). Those of erased events are not kept.
    async fn insert_conflicts(&mut self, _conflicts: &[NewConflict<'_>]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Inserts what became of requests whose clients wait.
    async fn insert_outcomes(&mut self, _outcomes: &[RequestOutcome]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Deletes the marks of attempts of an entry ([`Store::mark_attempt`]).
    async fn forget_attempts(&mut self, position: Position) -> Result<(), StoreError>;

    /// Sets the savepoint. There is one; it is set again each time.
    async fn savepoint(&mut self) -> Result<(), StoreError>;

    /// Rolls back to the savepoint, and removes it.
    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError>;

    /// Removes the savepoint without a rollback.
    async fn release_savepoint(&mut self) -> Result<(), StoreError>;

    /// Returns whether the store behind this connection was compared with the log ([`marks`]).
    fn is_compared(&self) -> bool {
        true
    }

    /// Notes that it was compared.
    fn set_compared(&mut self) {}

    /// Returns whether no connection was lost since this one was opened, so that [`Transaction::generation`] is the
    /// present one.
    fn is_current(&self) -> bool {
        true
    }

    /// Treats all connections as lost: no key that was cached before is trusted on the next one.
    fn distrust(&self) {}

    /// Returns the marks of the store behind this connection, as they are now.
    async fn stored_marks(&mut self) -> Result<StoredMarks, StoreError> {
        Ok(StoredMarks::default())
    }

    /// Returns the meters that are in force in this transaction.
    fn meters(&self) -> Arc<Set> {
        Arc::default()
    }

    /// Writes what the meters have counted of the events that were inserted.
    async fn add_to_meters(&mut self, _rows: Vec<Vec<u8>>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds to the counters of each `(topic, shard)` and to the series, and commits. The counters are last, because their rows are
    /// the ones that concurrent transactions would wait for. After an error the outcome is unknown. Returns the number
    /// of the commit, if commits are numbered.
    ///
    /// # Errors
    /// [`StoreError::Behind`] if a commit is missing that this process knows to be confirmed.
    async fn commit(
        self: Box<Self>,
        shard: &str,
        counts: &BatchCounts<'_>,
        number: Option<Number<'_>>,
    ) -> Result<Option<u64>, StoreError>;

    /// Rolls back, and keeps what the next transaction can use, such as the connection. Called after an error that says
    /// that the database is there and did nothing.
    async fn rollback(self: Box<Self>) {}
}

/// A database of events, statistics, receipts and dead letters.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns the cache of the keys that this process stored.
    fn dedup_cache(&self) -> &DedupCache;

    /// Begins the transaction that stores a batch, and does what [`Transaction::insert_receipts`] does: both
    /// together need one round trip. Returns the transaction and the receipts that were not stored yet.
    async fn begin(&self, receipts: &[ReceiptId]) -> Result<(Box<dyn Transaction>, HashSet<ReceiptId>), StoreError>;

    /// Marks, in a transaction of its own, that an attempt to store the entry begins. Returns how many have
    /// been marked.
    async fn mark_attempt(&self, position: Position) -> Result<u32, StoreError>;

    /// Takes one mark of an attempt back: the process stops in an orderly way, so the entry did not kill it.
    async fn unmark_attempt(&self, position: Position) -> Result<(), StoreError>;

    /// Returns a page of events. Damaged ones are in it and marked.
    async fn events(&self, query: &EventQuery) -> Result<Page, StoreError>;

    /// Returns the events with this topic and id, at most `limit`, the first stored first: one, or with other
    /// dedup fields possibly several. Damaged ones are marked.
    async fn event(&self, topic: &str, event_id: &str, limit: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// Returns the statistics, from one snapshot, with the counts of at most `max_topics` topics.
    async fn statistics(&self, max_topics: u32) -> Result<Statistics, StoreError>;

    /// Returns the counts of at most `limit` topics, beginning after the topic `after`.
    async fn topics(&self, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError>;

    /// Returns dead letters with ids below `before`, newest first, at most `limit`.
    async fn dead_letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Deletes, in bounded steps, the rows that are older than the time limits.
    async fn maintain(&self, maintenance: &Maintenance) -> Result<Removed, StoreError>;

    /// Closes the open partition of events if it is large or old enough, and prepares what keeps looking keys up cheap. Called
    /// every few seconds; `retention` is how long events are retained. Returns `None` while events do not lie in partitions.
    async fn maintain_partitions(&self, _retention: Option<Duration>) -> Result<Option<PartitionFigures>, StoreError> {
        Ok(None)
    }

    /// Adds up the counters whose shard belongs to none of these consumers in one row per topic, so that consumers
    /// that are gone leave no rows behind. The sums stay exact, also if one of them commits at this time. Returns the
    /// number of rows that were added up. A store with one consumer has nothing to do here.
    async fn fold_counters(&self, _consumers: &[String]) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Does what keeps series small and quick to read, and removes those of minutes that ended longer ago than `retention`.
    /// Called every few seconds.
    async fn maintain_series(&self, _retention: Option<Duration>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes conflicts beyond these limits. Called every minute.
    async fn maintain_conflicts(&self, _limits: ConflictLimits) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the meters, in the order of their names.
    async fn meters(&self) -> Result<Vec<MeterStatus>, StoreError> {
        Ok(Vec::new())
    }

    /// Adds a meter or changes it, at an exact cut, for which batches wait.
    async fn put_meter(&self, _name: &str, _definition: &Definition) -> Result<PutMeter, StoreError> {
        Err(StoreError::Failed("this store has no meters".into()))
    }

    /// Removes a meter with its figures. Returns whether there was one.
    async fn delete_meter(&self, _name: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Answers a question about a meter, of which [`Store::meters`] has told the id, from windows of this length and from what
    /// was not added to them yet, in one snapshot.
    async fn read_meter(&self, _id: i64, _length: Length, _question: Question) -> Result<MeterReading, StoreError> {
        Ok(MeterReading::Gone)
    }

    /// Adds up what batches have written for meters, counts events before the cuts of new meters, and removes windows that are
    /// too old. Called every few seconds. Returns `None` if another replica is doing so at this time.
    async fn maintain_meters(&self) -> Result<Option<MeterFigures>, StoreError> {
        Ok(None)
    }

    /// Returns the lock that a replay of a dead letter holds: there is one at a time, so that replays cannot use up the
    /// connections of commits.
    fn replays(&self) -> &tokio::sync::Mutex<()>;

    /// Returns how many sessions of the database this process has ended, because they were stuck and held receipts
    /// that a batch waited for. A store without such sessions returns zero.
    fn ended_sessions(&self) -> u64 {
        0
    }

    /// Returns the disk space of the receipts in bytes, as maintenance last measured it; `None` if it is not known.
    fn receipts_bytes(&self) -> Option<u64> {
        None
    }

    /// Returns the disk space of all tables with their indexes in bytes, as maintenance last measured it; `None` if it is
    /// not known.
    fn stored_bytes(&self) -> Option<u64> {
        None
    }

    /// Returns an error unless the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
