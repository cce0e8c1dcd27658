//! Changes of the partitions that wait at the server until no batch runs.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::server::{ModelStore, StoreServer};
use crate::planted::Planted;
use crate::world::lock;

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
                let is_mine = state.locks.try_maintain(session);
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
        self.locks.lock_out_batches(session);
        self.transactions.is_empty()
    }
}
