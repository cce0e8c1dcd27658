//! The append-only log between the publisher and the aggregators.
//!
//! Two roles, two traits: a publisher appends ([`LogWriter`]), an aggregator is one consumer of
//! the consumer group ([`LogReader`]). Redis streams ([`redis`]) and a SQLite file ([`sqlite`])
//! implement both, and one test suite runs against both.
//!
//! The log delivers **at least once**: an entry that was read and not acknowledged is delivered
//! again, to the same consumer after its restart or to another one that claims it. The receipts in
//! the aggregator's store make the effect exactly once.
//!
//! # How to change it
//! **A second consumer group**: today the group's name is a constant (`redis/keys.rs`, `GROUP`) which every
//! operation passes to its script; make it a setting of the reader. `redis/trim.lua` removes the entries that this
//! one group has acknowledged: it must use the lowest bound of all groups. The counter `acknowledged` of
//! `redis/acknowledge.lua`, `group.lua` and `backlog.lua` must then exist once per group. In SQLite,
//! acknowledging deletes the row (`sqlite/statements.rs`), and the entries in flight are those of one
//! consumer (`sqlite/delivery.rs`): rows need a position per group, and the lowest one bounds the deletion.
//!
//! **A content type**: nothing changes here. The log stores packed entries as bytes; bodies are parsed in
//! `sluice_event`.
//!
//! **Another log**: implement both traits and add it to the test suite, `tests/log/suite.rs`.

mod marks;
pub mod metrics;
pub mod notice;
pub mod redis;
pub mod replay;
pub mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use marks::CommitMark;
use notice::{Notice, NoticeRead, Tallies};
use sluice_event::entry::PackedEntry;
use sluice_event::{BodyHash, IdempotencyKeyHash};

/// The position of an entry: its stream and its id there. Ids of a stream only increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The number of the stream (partition), from 0.
    pub stream: u16,
    /// When it was appended: milliseconds since 1970, by the log's clock.
    pub millis: u64,
    /// Distinguishes entries of one millisecond.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.stream, self.millis, self.sequence)
    }
}

/// An entry to append, with what its requests need for their `Idempotency-Key`s.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream, below [`LogWriter::streams`].
    pub stream: u16,
    /// The packed entry. Repeating an append with the same entry is safe.
    pub entry: PackedEntry,
    /// The idempotency key of each request that has one.
    pub keyed: Vec<KeyedRequest>,
}

/// The record of an `Idempotency-Key`: a key identifies one body until its time to live ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Hash of the client and its key.
    pub key: IdempotencyKeyHash,
    /// Hash of the body that was sent with the key.
    pub body_hash: BodyHash,
}

/// The outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    Stored {
        /// Events of this stream that are appended and not acknowledged; `None` is unknown, not zero.
        backlog: Option<u64>,
    },
    /// These of [`Append::keyed`] (indexes) reuse a key with another body. Nothing was written.
    KeyReused(Vec<usize>),
}

/// How full the log is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Events appended and not acknowledged yet, of all streams; `None` is unknown, not zero.
    pub backlog: Option<u64>,
    /// Memory in use as a share of what the server may use (0 to 1); `None` when unbounded.
    pub memory: Option<f64>,
}

/// An entry delivered to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its position.
    pub position: Position,
    /// The packed entry, to be read by [`sluice_event::entry::decode`].
    pub body: Bytes,
    /// Its number of events, from the field outside the body.
    pub events: u64,
}

/// The result of one step of claiming.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Entries that a consumer left pending for too long. From now on they are pending for this consumer.
    pub entries: Vec<Delivered>,
    /// Entries that are pending but no longer in the log, so lost. Empty unless somebody trimmed the
    /// stream by hand. If it is not empty, an operator must be alerted.
    pub lost: Vec<Position>,
    /// Whether this step reached the end of the pending entries of all streams.
    pub complete: bool,
}

/// Entries and events that are not acknowledged yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events appended and not acknowledged; `None` is unknown, not zero.
    pub events: Option<u64>,
    /// Entries not delivered to any consumer; `None` is unknown, not zero.
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// Age of the oldest entry that is still in any stream.
    pub oldest: Option<Duration>,
}

/// The numbers of events that the log has counted, of all streams together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Events appended; `None` when a counter was lost, which is not zero.
    pub appended: Option<u64>,
    /// Events acknowledged; `None` when a counter was lost.
    pub acknowledged: Option<u64>,
}

/// A consumer of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name: the name of the replica.
    pub name: String,
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// How long ago it last asked for entries.
    pub idle: Duration,
}

/// The errors of a log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// It cannot be reached, or did not reply in time. The requested change may have been made.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// It refuses the user or the password, or wants one. Nothing was written. A retry can succeed, because a password
    /// is changed in the server and in the programs one after the other.
    #[error("the log refuses the user or the password: {0}")]
    Unauthenticated(String),
    /// It has no room for more entries. Nothing was written.
    #[error("the log is full: {0}")]
    Full(String),
    /// The disk under it is full. Nothing was written. It has room again when somebody makes room, so
    /// [`LogWriter::pressure`] returns this error too for a while.
    #[error("the log has no space on its disk: {0}")]
    NoSpace(String),
    /// It returned an error that a retry does not resolve.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// The publisher's side.
#[async_trait]
pub trait LogWriter: Send + Sync + 'static {
    /// Returns the number of streams over which entries are distributed.
    fn streams(&self) -> u16;

    /// Appends an entry and returns once it is on disk. All or nothing: when a key was reused
    /// nothing is written. After [`LogError::Unavailable`] the outcome is unknown, and the same
    /// append may be repeated.
    async fn append(&self, append: &Append) -> Result<Appended, LogError>;

    /// Returns how full the log is.
    async fn pressure(&self) -> Result<Pressure, LogError>;

    /// Returns whether aggregators leave notices in this log. If they do not, what is said about notices has no effect.
    fn has_notices(&self) -> bool {
        false
    }

    /// Returns the notice, unless it is the one with the known tag.
    async fn notice(&self, _known: Option<&str>) -> Result<NoticeRead, LogError> {
        Ok(NoticeRead::Absent)
    }

    /// Adds to tallies. After an error they may have been added.
    async fn add_to_tallies(&self, _tallies: &Tallies) -> Result<(), LogError> {
        Ok(())
    }

    /// Returns whether a request was appended to a stream under its key. False is also the answer if its record is gone.
    async fn is_recorded(&self, _stream: u16, _request: KeyedRequest) -> Result<bool, LogError> {
        Ok(false)
    }
}

/// One consumer of the consumer group. Every call creates the group where it is missing (after the
/// log was lost), at the beginning of the stream: receipts make repeated deliveries harmless.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    /// Returns the entries that were delivered to this consumer's name before it restarted and are not acknowledged,
    /// after `after` in the order of positions; empty when there are no more. Does not wait.
    async fn read_own_pending(&self, after: Option<Position>, entries: usize) -> Result<Vec<Delivered>, LogError>;

    /// Returns entries that were never delivered to any consumer: about `entries` at most. Waits up to `wait` for the
    /// first one (not at all when zero); empty when none came.
    async fn read_new(&self, entries: usize, wait: Duration) -> Result<Vec<Delivered>, LogError>;

    /// Takes over entries that have been pending for a consumer for longer than `idle`. The cursor is
    /// retained between calls, so that repeated calls visit all pending entries.
    async fn claim(&self, idle: Duration, entries: usize) -> Result<Claimed, LogError>;

    /// Resets the idle time of entries that are still in flight, so that no other consumer claims them.
    async fn extend_claim(&self, held: &[Position]) -> Result<(), LogError>;

    /// Returns how often each entry was delivered: 1 after the first time, 0 when it is not pending (any more).
    async fn deliveries(&self, held: &[Position]) -> Result<Vec<u64>, LogError>;

    /// Acknowledges entries with their numbers of events. Counts only the entries that were still pending, and returns
    /// their number. Works also when the log is full.
    async fn acknowledge(&self, done: &[(Position, u64)]) -> Result<u64, LogError>;

    /// Does what [`LogReader::acknowledge`] does, and notes in the same step the last of the commits that stored the
    /// entries. Does nothing if that commit, or a newer one of the same worker, was noted before: what is pending all the
    /// same was delivered again, and its commit may be lost. A log that is never replayed notes nothing.
    async fn acknowledge_commit(&self, done: &[(Position, u64)], _mark: &CommitMark) -> Result<u64, LogError> {
        self.acknowledge(done).await
    }

    /// Removes acknowledged entries outside the replay window; returns the number of removed entries. Never removes
    /// an entry that is pending or undelivered.
    async fn trim(&self) -> Result<u64, LogError>;

    /// Returns the backlog.
    async fn backlog(&self) -> Result<Backlog, LogError>;

    /// Returns the group's consumers.
    async fn consumers(&self) -> Result<Vec<ConsumerInfo>, LogError>;

    /// Removes consumers that have not asked for entries for `idle` and have nothing pending,
    /// never this one; returns their names.
    async fn remove_departed(&self, idle: Duration) -> Result<Vec<String>, LogError>;

    /// Leaves the group, if nothing is pending for this consumer; returns whether it left.
    async fn leave(&self) -> Result<bool, LogError>;

    /// Returns the tag of the notice; `None` if there is none.
    async fn notice_tag(&self) -> Result<Option<String>, LogError> {
        Ok(None)
    }

    /// Replaces the notice if it is the one with this tag, or there is none if `before` is `None`. Returns whether it was.
    async fn replace_notice(&self, _notice: &Notice, _before: Option<&str>) -> Result<bool, LogError> {
        Ok(true)
    }

    /// Returns all tallies.
    async fn tallies(&self) -> Result<Tallies, LogError> {
        Ok(Tallies::default())
    }

    /// Removes tallies.
    async fn forget_tallies(&self, _names: &[String]) -> Result<(), LogError> {
        Ok(())
    }

    /// Checks that the log replies.
    async fn ping(&self) -> Result<(), LogError>;
}
