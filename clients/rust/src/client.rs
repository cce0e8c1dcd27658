//! The handle that a program has.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, TryAcquireError, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::collector::{Order, Waiting};
use crate::core::Core;
use crate::error::{SendError, Unanswered};
use crate::event::Event;
use crate::outcome::{Delivery, Outcome};
use crate::settings::WhenFull;
use crate::spool::Recovery;
use crate::spooler::Spooler;
use crate::stats::{Stats, add};

/// What an event takes in memory beside its line: its channels, and its place in queues.
const EVENT_OVERHEAD: usize = 256;
/// How long tasks may take to end. They wait for nothing but a disk then.
const END: Duration = Duration::from_secs(5);

/// A client of one server. Clones are the same client.
///
/// When the last of them is dropped without [`Client::close`], what is not answered is given up; with a spool it stays there.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Handle>);

#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    /// `None` once the client is being closed.
    pub(crate) orders: RwLock<Option<UnboundedSender<Order>>>,
    /// A permit for each byte.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) spooler: Option<Arc<Spooler>>,
    pub(crate) recovery: Option<Recovery>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}

impl Client {
    /// Takes an event, and returns its delivery, which need not be awaited.
    ///
    /// Without a spool it returns when there is room in memory. With a spool it returns when the event is on disk, from where
    /// it is sent even if this process is killed. If the future is dropped before it returns, the event may be sent or not.
    ///
    /// # Errors
    /// When the event was not taken.
    pub async fn send(&self, event: Event) -> Result<Delivery, SendError> {
        let Handle { core, spooler, .. } = &*self.0;
        let line = event.into_line()?;
        let limit = core.settings.batch_bytes;
        if line.bytes.len() > limit {
            return Err(SendError::TooLarge { bytes: line.bytes.len(), limit });
        }
        let memory = self.reserve(line.bytes.len() + EVENT_OVERHEAD).await?;
        let otherwise = if spooler.is_some() { Outcome::Spooled } else { Outcome::Unanswered };
        let (outcome, delivery) = Delivery::new(line.event_id, otherwise);
        let (written, is_written) = oneshot::channel();
        let written = spooler.is_some().then_some(written);
        let order = Order::Event(Waiting { line: line.bytes, arrived: Instant::now(), outcome, written, memory });
        {
            let orders = self.0.orders.read().unwrap_or_else(PoisonError::into_inner);
            let orders = orders.as_ref().ok_or(SendError::Closed)?;
            core.counters.begin(1);
            if orders.send(order).is_err() {
                core.counters.end(1);
                return Err(SendError::Closed);
            }
        }
        if spooler.is_some() {
            is_written.await.map_err(|_| SendError::Closed)??;
        } else {
            add(&core.counters.sent, 1);
        }
        Ok(delivery)
    }

    /// Waits until no event waits for its answer, those that are sent meanwhile and those in the spool included.
    ///
    /// # Errors
    /// When some still wait after this time. They are sent further.
    pub async fn flush(&self, within: Duration) -> Result<(), Unanswered> {
        if let Some(orders) = self.0.orders.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Fails only if the client has stopped.
            let _ = orders.send(Order::Flush);
        }
        let counters = &self.0.core.counters;
        let answered = timeout(within, counters.all_answered()).await;
        answered.map_err(|_| Unanswered { events: counters.waiting(), last_failure: counters.last_failure() })
    }

    /// Takes no more events, waits until those that it has are answered, and stops. The spool is free for another client then.
    ///
    /// # Errors
    /// When some are not answered within this time. They are given up; with a spool they stay there, and the next client that
    /// opens it sends them.
    pub async fn close(&self, within: Duration) -> Result<(), Unanswered> {
        let deadline = Instant::now() + within;
        if let Some(orders) = self.0.orders.write().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = orders.send(Order::Flush);
        }
        // Senders that wait for room are told that there will be none.
        self.0.memory.close();
        let counters = &self.0.core.counters;
        let answered = timeout_at(deadline, counters.all_answered()).await;
        let answered =
            answered.map_err(|_| Unanswered { events: counters.waiting(), last_failure: counters.last_failure() });
        self.0.core.stop.cancel();
        self.0.core.tasks.close();
        let ended = timeout(END, self.0.core.tasks.wait()).await;
        if let Some(spooler) = &self.0.spooler {
            spooler.waiters.clear();
            // Otherwise a disk that hangs may still be written to.
            if ended.is_ok() {
                spooler.spool.release();
            }
        }
        answered
    }

    /// Returns what was counted since the client was built.
    pub fn stats(&self) -> Stats {
        let Handle { core, memory, spooler, .. } = &*self.0;
        let usage = spooler.as_ref().map(|spooler| spooler.spool.usage());
        Stats {
            waiting_bytes: (core.settings.memory_bytes - memory.available_permits()) as u64,
            spooled_bytes: usage.map_or(0, |usage| usage.segments),
            aside_bytes: usage.map_or(0, |usage| usage.aside),
            damaged: usage.map_or(0, |usage| usage.damaged),
            ..core.counters.stats()
        }
    }

    /// Returns what was found in the spool when it was opened; `None` without a spool.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.0.recovery.as_ref()
    }

    async fn reserve(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, SendError> {
        let Handle { core, memory, .. } = &*self.0;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if core.settings.when_full == WhenFull::Block {
            return memory.clone().acquire_many_owned(permits).await.map_err(|_| SendError::Closed);
        }
        memory.clone().try_acquire_many_owned(permits).map_err(|error| match error {
            TryAcquireError::Closed => SendError::Closed,
            TryAcquireError::NoPermits => {
                add(&core.counters.dropped, 1);
                SendError::Dropped
            }
        })
    }
}
