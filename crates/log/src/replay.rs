//! What a log remembers of the commits whose entries were acknowledged, so that a store that has lost commits is
//! noticed, and gets the entries again.
//!
//! Each worker numbers its commits. The store has the number in the transaction of the commit; the log has it from the
//! step that acknowledges the entries. A store whose number is lower than the log's has lost commits: it was restored
//! from a backup, or another server became the primary that had not received them. Then the entries that are still in
//! the log are stored again (**replay**). Until that has ended, nothing is trimmed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

pub use crate::marks::{CommitMark, Marks};
use crate::{Delivered, LogError, Position};

/// What the log remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogMarks {
    /// The last commit of each worker whose entries were acknowledged, of workers that are gone too.
    pub marks: Marks,
    /// When the entries of each of these commits were acknowledged, in seconds since 1970 by the log's clock.
    pub acknowledged_at: BTreeMap<String, u64>,
    /// The replay that has not ended.
    pub replay: Option<PendingReplay>,
    /// Everything that was acknowledged since this time is still in the log, in milliseconds since 1970 by the log's
    /// clock; `None` while it is not known.
    pub covered_since: Option<u64>,
    /// The time of this answer by the log's clock.
    pub now: u64,
    /// The last loss that was found, until it is forgotten.
    pub loss: Option<Loss>,
}

/// A loss of commits, as it was found. Times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// When it was found, by the log's clock.
    pub detected: u64,
    /// The time of the store's last commit that was not lost, by the store's clock; `None` if it has none.
    pub survived: Option<u64>,
    /// Everything that was acknowledged since this time was in the log; `None` if that is not known.
    pub covered_since: Option<u64>,
}

impl Loss {
    /// Returns whether the log has everything that was acknowledged since the last commit that was not lost.
    pub fn is_covered(&self) -> bool {
        matches!((self.survived, self.covered_since), (Some(survived), Some(since)) if since <= survived)
    }
}

/// A replay that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingReplay {
    /// The loss that it repairs.
    pub loss: Loss,
    /// The parts of the streams.
    pub streams: Vec<StreamReplay>,
    /// The marks that the store has reached again when all parts are stored.
    pub marks: Marks,
}

/// The part of a stream that is stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReplay {
    /// Identifies it in this stream.
    pub id: u64,
    /// The last entry of the part: the last one that was delivered when the loss was found.
    pub until: Position,
    /// The last entry that is stored again.
    pub reached: Position,
    /// The number of the commit that stored it, of the worker that replays.
    pub number: u64,
}

/// A log that remembers marks, and can deliver acknowledged entries again.
#[async_trait]
pub trait ReplayLog: Send + Sync + 'static {
    /// Returns what the log remembers. To notice a loss, it is read before the store's marks: then a commit that is
    /// newer than both reads is no false alarm.
    async fn marks(&self) -> Result<LogMarks, LogError>;

    /// Begins a replay of each stream that has none, up to the entry that was delivered last. `marks` were read before,
    /// and no entry of a commit up to them was delivered later. Nothing is trimmed until the replay ends. Returns
    /// whether no replay was pending before.
    async fn begin_replay(&self, marks: &Marks, survived: Option<u64>) -> Result<bool, LogError>;

    /// Takes the right to replay, or extends it, for `ttl`. Returns false while another replica has it. It prevents
    /// nothing but that two replicas do the same work.
    async fn lease_replay(&self, ttl: Duration) -> Result<bool, LogError>;

    /// Gives the right to replay back.
    async fn release_replay(&self) -> Result<(), LogError>;

    /// Returns entries after `after`, up to `until` of the same stream, whether they are acknowledged or not; about
    /// `entries` at most. Changes nothing in the log.
    async fn read_again(&self, after: Position, until: Position, entries: usize) -> Result<Vec<Delivered>, LogError>;

    /// Saves how far a part is stored, unless it is not pending any more.
    async fn save_replay(&self, part: &StreamReplay) -> Result<(), LogError>;

    /// Ends the replay of all parts, whose entries are then retained for a whole window, and notes the loss. A part
    /// that was begun since is left.
    async fn end_replay(&self, replay: &PendingReplay) -> Result<(), LogError>;

    /// Forgets the marks of these workers, if nothing was acknowledged by them for `age` and no replay is pending.
    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<(), LogError>;
}
