//! The locks that a change of the partitions takes.

use std::collections::BTreeMap;

/// The locks of the tables and of the schema. Each owner is a session.
#[derive(Debug, Default)]
pub struct TableLocks {
    last_session: u64,
    /// Lets one session at a time change the partitions.
    maintaining: Option<u64>,
    /// Waits until all transactions have ended, or works while there is none. New ones wait.
    exclusive: Option<u64>,
    /// Lets one session at a time build a filter.
    building: Option<u64>,
    /// What the sessions do to partitions at this time, and their processes.
    pub at_work: BTreeMap<u64, (String, Work)>,
}

/// What a session does to partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It closes one, or waits for the transactions to end.
    Closing,
    /// It builds a filter.
    Building,
    /// It detaches or drops a table.
    Dropping,
}

impl TableLocks {
    /// Opens a session.
    pub fn session(&mut self) -> u64 {
        self.last_session += 1;
        self.last_session
    }

    /// Returns whether transactions that begin have to wait.
    pub fn make_wait(&self) -> bool {
        self.exclusive.is_some()
    }

    /// Takes the lock under which partitions are changed. Returns whether nobody else has it.
    pub fn try_maintain(&mut self, session: u64) -> bool {
        *self.maintaining.get_or_insert(session) == session
    }

    /// Makes transactions that begin wait for a session.
    pub fn lock_out_batches(&mut self, session: u64) {
        self.exclusive = Some(session);
    }

    /// Takes the lock under which filters are built. Returns whether nobody else has it.
    pub fn try_build(&mut self, session: u64) -> bool {
        *self.building.get_or_insert(session) == session
    }

    /// Releases the lock under which filters are built.
    pub fn end_building(&mut self, session: u64) {
        self.building.take_if(|owner| *owner == session);
    }

    /// Returns whether nobody changes the partitions.
    pub fn are_free(&self) -> bool {
        self.maintaining.is_none()
    }

    /// Releases the locks of a step.
    pub fn release(&mut self, session: u64) {
        self.maintaining.take_if(|owner| *owner == session);
        self.exclusive.take_if(|owner| *owner == session);
    }

    /// Releases all of them: the server is another one.
    pub fn release_all(&mut self) {
        *self = Self { last_session: self.last_session, ..Self::default() };
    }
}
