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
//! verb passes to its script; make it a setting of the reader. `redis/trim.lua` removes the entries that this
//! one group has acknowledged: it must use the lowest bound of all groups. The counter `acknowledged` of
//! `redis/acknowledge.lua`, `group.lua` and `backlog.lua` must then exist once per group. In SQLite,
//! acknowledging deletes the row (`sqlite/statements.rs`), and the entries in flight are those of one
//! consumer (`sqlite/delivery.rs`): rows need a position per group, and the lowest one bounds the deletion.
//!
//! **A content type**: nothing changes here. The log stores packed entries as bytes; bodies are parsed in
//! `sluice_event`.
//!
//! **Another log**: implement both traits and add it to the test suite, `tests/log/suite.rs`.

pub mod redis;
pub mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_event::entry::PackedEntry;
use sluice_event::{BodyHash, IdempotencyKeyHash};

/// Where an entry stands: which stream, and its id there, which only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The number of the stream (partition), from 0.
    pub stream: u16,
    /// Milliseconds since 1970 when it was appended, by the log's clock.
    pub millis: u64,
    /// Tells entries of one millisecond apart.
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
    /// Of each request that brought a key.
    pub keyed: Vec<KeyedRequest>,
}

/// The record of an `Idempotency-Key`: a key stands for one body until its time to live ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Hash of the client and its key.
    pub key: IdempotencyKeyHash,
    /// Hash of the body that came with it.
    pub body_hash: BodyHash,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    Stored {
        /// Events appended and not acknowledged, of this stream, when known.
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
    /// Where it stands.
    pub position: Position,
    /// The packed entry, to be read by [`sluice_event::entry::decode`].
    pub body: Bytes,
    /// How many events it holds, as said outside the body.
    pub events: u64,
}

/// What a step of claiming found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Entries that another consumer left pending for too long, ours from now on.
    pub entries: Vec<Delivered>,
    /// Entries that are pending but no longer in the log: lost. Always empty unless somebody
    /// trimmed the stream by hand; an alarm when not.
    pub lost: Vec<Position>,
    /// Whether this step reached the end of the pending entries of all streams.
    pub complete: bool,
}

/// What has not been stored yet.
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

/// A consumer of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name: the replica's.
    pub name: String,
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// How long ago it last asked for entries.
    pub idle: Duration,
}

/// What can go wrong with a log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// It cannot be reached, or did not answer in time. What was asked may have happened.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// It has no room for more entries. Nothing was written.
    #[error("the log is full: {0}")]
    Full(String),
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

    /// How full the log is.
    async fn pressure(&self) -> Result<Pressure, LogError>;
}

/// One consumer of the consumer group. Every call creates the group where it is missing (after the
/// log was lost), at the beginning of the stream: receipts absorb what is delivered again.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    /// Entries delivered to this consumer's name before it restarted and not acknowledged, behind
    /// `after` in the order of positions; empty when there are no more. Does not wait.
    async fn read_own_pending(&self, after: Option<Position>, entries: usize) -> Result<Vec<Delivered>, LogError>;

    /// Entries never delivered to anyone: up to about `entries`, waiting up to `wait` for the
    /// first (not at all when zero). Empty when none came.
    async fn read_new(&self, entries: usize, wait: Duration) -> Result<Vec<Delivered>, LogError>;

    /// Takes over entries that some consumer has held for longer than `idle`. Carries its cursor
    /// from call to call, so that calls go round all that is pending.
    async fn claim(&self, idle: Duration, entries: usize) -> Result<Claimed, LogError>;

    /// Says that these are still being worked on, so that nobody claims them.
    async fn extend_claim(&self, held: &[Position]) -> Result<(), LogError>;

    /// How often each was delivered: 1 after the first time, 0 when it is not pending (any more).
    async fn deliveries(&self, held: &[Position]) -> Result<Vec<u64>, LogError>;

    /// Acknowledges entries with their numbers of events; counts only what was still pending, and
    /// returns how many entries that were. Works also when the log is full.
    async fn acknowledge(&self, done: &[(Position, u64)]) -> Result<u64, LogError>;

    /// Frees what every consumer has acknowledged, but for the replay window; returns how many
    /// entries went. Never removes an entry that is pending or undelivered.
    async fn trim(&self) -> Result<u64, LogError>;

    /// What has not been stored yet.
    async fn backlog(&self) -> Result<Backlog, LogError>;

    /// The group's consumers.
    async fn consumers(&self) -> Result<Vec<ConsumerInfo>, LogError>;

    /// Removes consumers that have not asked for entries for `idle` and have nothing pending,
    /// never this one; returns their names.
    async fn remove_departed(&self, idle: Duration) -> Result<Vec<String>, LogError>;

    /// Leaves the group, if nothing is pending for this consumer; returns whether it left.
    async fn leave(&self) -> Result<bool, LogError>;

    /// Whether the log answers.
    async fn ping(&self) -> Result<(), LogError>;
}
