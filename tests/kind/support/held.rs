//! Aggregators that are paused while they have something to do.

use super::node::{Process, signal};

/// Aggregators that are paused with entries in flight.
pub struct Held {
    /// Their processes.
    pub processes: Vec<Process>,
    /// The number of entries in flight.
    pub pending: u64,
}

impl Held {
    /// Resumes the aggregators. It is no error if a process does not exist any more.
    pub fn release(&self) {
        signal(&self.processes, "-CONT");
    }

    /// Resumes the aggregators of all nodes but this one.
    pub fn release_but_on(&self, node: &str) {
        let others: Vec<_> = self.processes.iter().filter(|process| !process.is_on(node)).cloned().collect();
        signal(&others, "-CONT");
    }

    /// Kills the aggregators (SIGKILL).
    pub fn kill(&self) {
        signal(&self.processes, "-KILL");
    }
}
