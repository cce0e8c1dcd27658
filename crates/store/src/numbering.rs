//! How commits are numbered ([`crate::marks`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_log::replay::{Marks, ReplayLog};

/// The marks of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredMarks {
    /// The number of the last commit of each worker.
    pub numbers: Marks,
    /// When it was committed, in milliseconds since 1970 by the store's clock.
    pub committed_at: BTreeMap<String, u64>,
}

impl StoredMarks {
    /// Returns when the last of all commits was committed; `None` without any.
    pub fn last_commit(&self) -> Option<u64> {
        self.committed_at.values().max().copied()
    }

    /// Returns when the last commit of the other workers was committed.
    pub fn last_commit_of_others(&self, worker: &str) -> Option<u64> {
        self.committed_at.iter().filter(|(other, _)| *other != worker).map(|(_, at)| *at).max()
    }

    /// Returns the workers of which the store has lost commits that the log knows.
    pub fn behind<'l>(&self, log: &'l Marks) -> Vec<&'l str> {
        let is_behind = |(worker, number): &(&String, &u64)| self.numbers.get(*worker).is_none_or(|own| own < *number);
        log.iter().filter(is_behind).map(|(worker, _)| worker.as_str()).collect()
    }
}

/// What one process knows of its commits: the last one of each of its workers that the store has confirmed, and which
/// loss of the store it has seen.
#[derive(Debug, Default)]
pub struct ConfirmedCommits {
    marks: Mutex<Marks>,
    /// When the last loss was found, in milliseconds since 1970, or 0; `None` before the process has asked.
    seen: Mutex<Option<u64>>,
}

impl ConfirmedCommits {
    /// Returns the number of the last confirmed commit of each worker.
    pub fn all(&self) -> Marks {
        self.lock().clone()
    }

    /// Notes that the store has confirmed a commit, or is known to have it.
    pub fn confirm(&self, worker: &str, number: u64) {
        let mut confirmed = self.lock();
        match confirmed.get_mut(worker) {
            Some(last) => *last = number.max(*last),
            None => _ = confirmed.insert(worker.to_owned(), number),
        }
    }

    /// Returns whether a loss is the last one that was seen. The first answer is always true: nothing was cached before.
    pub fn has_seen(&self, loss: u64) -> bool {
        *self.seen().get_or_insert(loss) == loss
    }

    /// Notes that a loss was seen, after the connections of before were given up.
    pub fn see(&self, loss: u64) {
        *self.seen() = Some(loss);
    }

    fn seen(&self) -> MutexGuard<'_, Option<u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the commits of one worker are numbered.
#[derive(Clone)]
pub struct Numbering {
    /// The name of the worker.
    pub worker: String,
    /// The commits of its process.
    pub confirmed: Arc<ConfirmedCommits>,
    /// The log whose marks are compared before the first commit on each connection. `None` for the replay itself, which
    /// stores what is missing.
    pub log: Option<Arc<dyn ReplayLog>>,
}

impl fmt::Debug for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbering").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// What a transaction needs to number its commit.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a> {
    /// The worker whose commit it is.
    pub worker: &'a str,
    /// The commits of this process that must be there.
    pub confirmed: &'a Marks,
}

impl Number<'_> {
    /// Returns the workers whose commits must be there, and their numbers, beginning with the one that commits.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (&str, u64)> {
        let own = (self.worker, self.confirmed.get(self.worker).copied().unwrap_or(0));
        let others = self.confirmed.iter().filter(|(worker, _)| *worker != self.worker);
        std::iter::once(own).chain(others.map(|(worker, number)| (worker.as_str(), *number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(marks: &[(&str, u64)]) -> Marks {
        marks.iter().map(|(worker, number)| ((*worker).to_owned(), *number)).collect()
    }

    #[test]
    fn a_store_is_behind_if_a_mark_of_the_log_is_higher_or_missing_in_it() {
        let stored = StoredMarks { numbers: marks(&[("a/0", 5), ("a/1", 7)]), committed_at: BTreeMap::new() };
        assert!(stored.behind(&marks(&[("a/0", 5), ("a/1", 6)])).is_empty());
        assert_eq!(stored.behind(&marks(&[("a/0", 6), ("a/1", 7), ("gone/0", 1)])), ["a/0", "gone/0"]);
        assert!(stored.behind(&Marks::new()).is_empty());
    }

    #[test]
    fn a_commit_names_its_worker_first_and_a_late_confirmation_lowers_nothing() {
        let confirmed = ConfirmedCommits::default();
        confirmed.confirm("a/1", 3);
        confirmed.confirm("a/0", 9);
        confirmed.confirm("a/0", 8);
        let all = confirmed.all();
        let workers = |worker| Number { worker, confirmed: &all }.workers().map(|(w, n)| (w.to_owned(), n)).collect();
        let first: Vec<(String, u64)> = workers("a/1");
        assert_eq!(first, [("a/1".to_owned(), 3), ("a/0".to_owned(), 9)]);
        let new: Vec<(String, u64)> = workers("claimed");
        assert_eq!(new[0], ("claimed".to_owned(), 0));
    }
}
