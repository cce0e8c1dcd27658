//! What the commits of a replica wait for: it is shown in the metrics and in the answer of `/readyz`. A replica whose
//! commits are stuck stays ready, because its queries work.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_store::StoreError;
use tokio::time::Instant;

/// The number of failures in a row from which a batch counts as stuck. Batches meet each other's transactions now and
/// then; if one fails several times in a row, something else is in its way.
pub const STUCK_AFTER: u32 = 3;

/// Why a commit failed. The database's own message is in the log, and not shown to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another transaction is in the way.
    Conflict,
    /// It takes longer than a statement may.
    TooSlow,
    /// The store does not answer.
    Unavailable,
    /// The store's disk is full.
    DiskFull,
    /// The store's files are damaged.
    Damaged,
    /// The store has lost commits, which are stored again first.
    Behind,
    /// Any other reason.
    Failed,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 7] =
        [Self::Conflict, Self::TooSlow, Self::Unavailable, Self::DiskFull, Self::Damaged, Self::Behind, Self::Failed];

    /// Returns the value of a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
            Self::DiskFull => "disk_full",
            Self::Damaged => "damaged",
            Self::Behind => "behind",
            Self::Failed => "failed",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Conflict => "another transaction holds what it needs",
            Self::TooSlow => "the store takes too long",
            Self::Unavailable => "the store does not answer",
            Self::DiskFull => "the disk of the store is full",
            Self::Damaged => "the store is damaged; its message is in the log",
            Self::Behind => "the store has lost commits, which are stored again first",
            Self::Failed => "the store failed; its message is in the log",
        }
    }
}

impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::Conflict,
            StoreError::TooSlow(_) => Self::TooSlow,
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::DiskFull(_) => Self::DiskFull,
            StoreError::Damaged(_) => Self::Damaged,
            StoreError::Behind(_) => Self::Behind,
            StoreError::Failed(_) | StoreError::Refused { .. } => Self::Failed,
        }
    }
}

/// The batches that a replica is storing.
#[derive(Debug, Default)]
pub struct CommitWatch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    batches: BTreeMap<u64, Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    since: Instant,
    failures: u32,
    reason: Reason,
}

/// A batch that is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// How long ago it was read.
    pub age: Duration,
    /// The number of attempts that failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Reason,
}

impl CommitWatch {
    /// Watches a batch until the returned value is dropped.
    pub(crate) fn begin(&self) -> WatchedBatch<'_> {
        let mut state = self.state();
        state.begun += 1;
        let id = state.begun;
        state.batches.insert(id, Watched { since: Instant::now(), failures: 0, reason: Reason::Failed });
        WatchedBatch { watch: self, id }
    }

    /// Returns the age of the oldest batch that is not committed; zero if there is none.
    pub fn oldest(&self) -> Duration {
        self.state().batches.values().map(|batch| batch.since.elapsed()).max().unwrap_or_default()
    }

    /// Returns the batches that are stuck.
    pub fn stuck(&self) -> Vec<Stuck> {
        let state = self.state();
        let stuck = state.batches.values().filter(|batch| batch.failures >= STUCK_AFTER);
        stuck
            .map(|batch| Stuck { age: batch.since.elapsed(), failures: batch.failures, reason: batch.reason })
            .collect()
    }

    /// Returns a line for each batch that is stuck, for `/readyz`.
    pub fn notes(&self) -> Vec<String> {
        let note = |Stuck { age, failures, reason }: Stuck| {
            let seconds = age.as_secs();
            format!("a batch is not committed since {seconds} s, after {failures} attempts: {}", reason.text())
        };
        self.stuck().into_iter().map(note).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is watched.
pub(crate) struct WatchedBatch<'w> {
    watch: &'w CommitWatch,
    id: u64,
}

impl WatchedBatch<'_> {
    /// Notes that an attempt to commit failed. Returns how many failed in a row, and the age of the batch.
    pub fn failed(&self, error: &StoreError) -> (u32, Duration) {
        let mut state = self.watch.state();
        let Some(batch) = state.batches.get_mut(&self.id) else { return (1, Duration::ZERO) };
        batch.failures += 1;
        batch.reason = Reason::from(error);
        (batch.failures, batch.since.elapsed())
    }

    /// Notes that a part of the batch is committed.
    pub fn progressed(&self) {
        if let Some(batch) = self.watch.state().batches.get_mut(&self.id) {
            batch.failures = 0;
        }
    }
}

impl Drop for WatchedBatch<'_> {
    fn drop(&mut self) {
        self.watch.state().batches.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_stuck_from_its_third_failure_in_a_row_until_it_is_committed() {
        let age = Duration::from_secs(35);
        let watch = CommitWatch::default();
        let (first, _second) = (watch.begin(), watch.begin());
        watch.state().batches.values_mut().for_each(|batch| batch.since -= age);
        assert!(watch.oldest() >= age);
        let full = StoreError::DiskFull("53100: could not extend file".into());
        first.failed(&full);
        first.failed(&full);
        first.progressed();
        first.failed(&full);
        assert_eq!(first.failed(&full).0, 2);
        assert!(watch.notes().is_empty() && watch.stuck().is_empty());
        first.failed(&full);
        let stuck = watch.stuck();
        assert_eq!(stuck.iter().map(|s| (s.failures, s.reason)).collect::<Vec<_>>(), [(3, Reason::DiskFull)]);
        assert!(stuck[0].age >= age);
        let notes = watch.notes();
        assert!(notes[0].ends_with("after 3 attempts: the disk of the store is full"), "{notes:?}");
        drop(first);
        assert!(watch.stuck().is_empty());
    }
}
