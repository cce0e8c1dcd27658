//! The locks that a change of the partitions takes, and the waiting for them at the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::server::{ModelStore, StoreServer};
use crate::planted::Planted;
use crate::world::lock;

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
    fn release(&mut self, session: u64) {
        self.maintaining.take_if(|owner| *owner == session);
        self.exclusive.take_if(|owner| *owner == session);
    }

    /// Releases all of them: the server is another one.
    pub fn release_all(&mut self) {
        *self = Self { last_session: self.last_session, ..Self::default() };
    }
}

/// A transaction that changes the partitions while no batch runs. The server goes on with it even if its process dies.
pub struct Step<P, W> {
    /// The server that it was sent to.
    pub server: u64,
    /// Its session.
    pub session: u64,
    /// Returns whether it is still to be done. Asked before it waits for the batches.
    pub is_possible: P,
    /// What it does.
    pub work: W,
}

impl<P, W, T> Step<P, W>
where
    P: Fn(&StoreServer) -> bool,
    W: FnOnce(&mut StoreServer) -> T,
{
    /// Runs it. Returns `None` if it did nothing: it waited for too long, or was not possible.
    pub async fn run(self, store: Arc<ModelStore>) -> Option<T> {
        let Self { server, session, is_possible, work } = self;
        let deadline = Instant::now() + store.step_timeout;
        loop {
            let ended = store.ended.notified();
            {
                let mut state = lock(&store.server);
                if state.generation != server {
                    return None;
                }
                let is_mine = *state.locks.maintaining.get_or_insert(session) == session;
                if is_mine && !is_possible(&state) {
                    state.locks.release(session);
                    break;
                }
                if is_mine && state.lock_out_batches(session) {
                    let done = work(&mut state);
                    state.locks.release(session);
                    store.ended.notify_waiters();
                    return Some(done);
                }
            }
            if timeout_at(deadline, ended).await.is_err() {
                lock(&store.server).locks.release(session);
                break;
            }
        }
        store.ended.notify_waiters();
        None
    }
}

impl StoreServer {
    /// Makes batches wait, and returns whether none runs any more.
    fn lock_out_batches(&mut self, session: u64) -> bool {
        if self.planted == Some(Planted::CloseDoesNotWait) {
            return true;
        }
        self.locks.exclusive = Some(session);
        self.transactions.is_empty()
    }
}
