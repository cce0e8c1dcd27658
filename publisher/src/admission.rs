//! How many requests, and how many bytes of their bodies, the publisher holds at the same time.

use std::sync::{Arc, LazyLock};

use metrics::Gauge;
use sluice_service::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problems::queue_full;

/// Looked up once: the lookup takes longer than counting does.
static WAITING: LazyLock<Gauge> = LazyLock::new(|| metrics::gauge!(crate::metrics::WAITING_REQUESTS.name));

/// The place of one request in the queue. It is free again when this is dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Takes a place.
    ///
    /// # Errors
    /// `queue_full` when no place is free.
    pub(crate) fn take(slots: &Arc<Semaphore>) -> Result<Self, Problem> {
        let permit = slots.clone().try_acquire_owned().map_err(|_| queue_full())?;
        WAITING.increment(1);
        Ok(Self { _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        WAITING.decrement(1);
    }
}

/// Bytes of one body, counted against the bound on all bodies that are held. They are free again
/// when this is dropped.
pub(crate) struct Reservation {
    bytes: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Returns a reservation of no bytes yet, out of those that `bytes` has permits for.
    pub(crate) fn new(bytes: Arc<Semaphore>) -> Self {
        Self { bytes, held: None }
    }

    /// Reserves `bytes` more.
    ///
    /// # Errors
    /// `queue_full` when they would exceed the bound.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = u32::try_from(bytes).ok().and_then(|n| self.bytes.clone().try_acquire_many_owned(n).ok());
        let more = more.ok_or_else(queue_full)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}
