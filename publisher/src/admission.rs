//! How many requests, and how many bytes of their bodies, the publisher holds at the same time.

use std::sync::{Arc, LazyLock};

use metrics::Gauge;
use sluice_service::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body_budget::BodyBudget;
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
    budget: Arc<BodyBudget>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Returns a reservation of no bytes yet.
    pub(crate) fn new(budget: Arc<BodyBudget>) -> Self {
        Self { budget, held: None }
    }

    /// Returns the budget that the bytes are taken from.
    pub(crate) fn budget(&self) -> Arc<BodyBudget> {
        self.budget.clone()
    }

    /// Reserves `bytes` more. If there are too few, bodies that arrive slowly are refused to make room.
    ///
    /// # Errors
    /// `queue_full` when they would exceed the bound.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = self.budget.take(bytes).await.ok_or_else(queue_full)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    /// Returns how many bytes more it could have if nobody else had any.
    pub(crate) fn max_growth(&self) -> usize {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.budget.total().saturating_sub(held)
    }

    /// Returns `bytes` that are not needed any more.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            drop(held.split(bytes.min(held.num_permits())));
        }
    }
}
