//! The marks of commits ([`crate::replay`]).

use std::collections::BTreeMap;

/// The number of the last commit of each worker.
pub type Marks = BTreeMap<String, u64>;

/// The number of a commit of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMark {
    /// The worker: a name that no other worker has at the same time.
    pub worker: String,
    /// The number of its commit, as the store gave it.
    pub number: u64,
}
