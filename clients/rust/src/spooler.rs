//! Writes batches to the spool, and sends what is in it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::collector::{Group, Sink};
use crate::core::{Core, rejections};
use crate::error::SendError;
use crate::outcome::Rejection;
use crate::settings::WhenFull;
use crate::spool::{Spool, Spooled, Written};
use crate::stats::add;
use crate::waiters::Waiters;

/// The waits between attempts to write dead letters: a full disk is not free again soon.
const DEAD_LETTERS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The spool, and what its tasks share.
#[derive(Debug)]
pub(crate) struct Spooler {
    pub(crate) core: Arc<Core>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) waiters: Arc<Waiters>,
    /// Is notified when there is a further batch to send.
    pub(crate) ready: Arc<Notify>,
}

impl Sink for Arc<Spooler> {
    async fn put(&mut self, group: Group) {
        let batch = Arc::new(Batch::new(Uuid::new_v4(), group.body.into()));
        let told = match self.write(&batch).await {
            Write::Written(written) => {
                add(&self.core.counters.sent, batch.len());
                // Before it can be answered.
                self.waiters.insert(batch.key(), group.outcomes);
                self.spool.add(&written);
                self.ready.notify_one();
                Told::Written
            }
            Write::Full => {
                add(&self.core.counters.dropped, batch.len());
                Told::Dropped
            }
            // The senders are told by the end of their channels.
            Write::Stopped => return,
            Write::Failed(error) => {
                tracing::error!(%error, events = batch.len(), "events cannot be written to the spool");
                Told::Failed(Arc::new(error))
            }
        };
        if !matches!(told, Told::Written) {
            self.core.counters.end(batch.len());
        }
        drop(group.memory);
        for sender in group.written {
            // A sender that does not wait any more need not know.
            let _ = sender.send(told.result());
        }
    }
}

/// How the writing of a batch ended.
enum Write {
    Written(Written),
    /// It is dropped because the spool is full.
    Full,
    /// The client stopped while there was no room.
    Stopped,
    Failed(io::Error),
}

/// What the senders of a batch are told.
enum Told {
    Written,
    Dropped,
    Failed(Arc<io::Error>),
}

impl Told {
    fn result(&self) -> Result<(), SendError> {
        match self {
            Self::Written => Ok(()),
            Self::Dropped => Err(SendError::Dropped),
            Self::Failed(error) => Err(SendError::Spool(error.clone())),
        }
    }
}

impl Spooler {
    /// Writes a batch, and syncs it.
    async fn write(&self, batch: &Arc<Batch>) -> Write {
        loop {
            let freed = self.spool.freed().notified();
            tokio::pin!(freed);
            // What becomes free while the spool is looked at must not be missed.
            freed.as_mut().enable();
            let (spool, appended) = (self.spool.clone(), batch.clone());
            match blocking(move || spool.append(&appended)).await {
                Ok(Some(written)) => return Write::Written(written),
                Ok(None) if self.core.settings.when_full == WhenFull::Drop => return Write::Full,
                Ok(None) if self.core.stop.run_until_cancelled(freed).await.is_none() => return Write::Stopped,
                Ok(None) => {}
                Err(error) => return Write::Failed(error),
            }
        }
    }

    /// Sends what is in the spool, until the client stops.
    pub(crate) async fn dispatch(self: Arc<Self>) {
        let sending = async {
            while let Ok(slot) = self.core.slots.clone().acquire_owned().await {
                match self.next().await {
                    Ok(spooled) => drop(self.core.tasks.spawn(self.clone().send(spooled, slot))),
                    Err(error) => return tracing::error!(%error, "the spool is not read any more"),
                }
            }
        };
        self.core.stop.run_until_cancelled(sending).await;
    }

    async fn next(&self) -> io::Result<Spooled> {
        loop {
            let spool = self.spool.clone();
            if let Some(spooled) = blocking(move || Ok(spool.next())).await? {
                return Ok(spooled);
            }
            // One notification is remembered while nobody waits.
            self.ready.notified().await;
        }
    }

    async fn send(self: Arc<Self>, spooled: Spooled, _slot: OwnedSemaphorePermit) {
        let core = &self.core;
        let Some(outcomes) = core.stop.run_until_cancelled(core.courier.deliver(&spooled.batch)).await else { return };
        let key = spooled.batch.key();
        let rejected = rejections(&outcomes);
        if !self.finish(Arc::new(spooled), rejected.into()).await {
            return;
        }
        core.counters.count(&outcomes);
        let events = outcomes.len();
        self.waiters.tell(key, outcomes);
        core.counters.end(events);
    }

    /// Notes that a batch was answered, and returns whether it could before the client stopped.
    async fn finish(&self, spooled: Arc<Spooled>, rejected: Arc<[(usize, Rejection)]>) -> bool {
        let mut backoff = Backoff::new(DEAD_LETTERS.0, DEAD_LETTERS.1);
        loop {
            let (spool, spooled, rejected) = (self.spool.clone(), spooled.clone(), rejected.clone());
            match blocking(move || spool.finish(&spooled, &rejected)).await {
                Ok(()) => return true,
                Err(error) => tracing::error!(%error, "dead letters cannot be written; it is tried again"),
            }
            let wait = tokio::time::sleep(backoff.next(None));
            if self.core.stop.run_until_cancelled(wait).await.is_none() {
                return false;
            }
        }
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
