//! What a client counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::outcome::Outcome;

/// The counts of a client since it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events for which `send` returned `Ok`.
    pub sent: u64,
    /// Events that the server accepted, those that were found in the spool too.
    pub delivered: u64,
    /// Events that the server refused. With a spool they are in its dead-letter file.
    pub rejected: u64,
    /// Events that were dropped because the client was full.
    pub dropped: u64,
    /// Requests that were sent again because they were not answered, or with a status that asks for it.
    pub repeated: u64,
    /// Events that are not answered yet, in memory and in the spool.
    pub waiting_events: u64,
    /// Bytes of memory that events take which are not answered yet, or with a spool not written to it yet.
    pub waiting_bytes: u64,
    /// Bytes of the segments of the spool.
    pub spooled_bytes: u64,
    /// Bytes in the directory of the spool that only people remove: dead letters, and what is damaged.
    pub aside_bytes: u64,
    /// Places in the spool that were damaged, and were put aside.
    pub damaged: u64,
    /// Why the last attempt that failed did so.
    pub last_failure: Option<String>,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) repeated: AtomicU64,
    /// Events that are not answered, which others wait for to become none.
    waiting: watch::Sender<u64>,
    last_failure: Mutex<Option<String>>,
}

pub(crate) fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}

impl Counters {
    /// Counts events that are not answered from now on.
    pub(crate) fn begin(&self, events: u64) {
        self.waiting.send_modify(|waiting| *waiting += events);
    }

    /// Counts events that are answered, or dropped, from now on.
    pub(crate) fn end(&self, events: usize) {
        self.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(events as u64));
    }

    /// Waits until no event waits for its answer.
    pub(crate) async fn all_answered(&self) {
        // The sender is a part of this, so the wait cannot fail.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// Returns how many events are not answered.
    pub(crate) fn waiting(&self) -> u64 {
        *self.waiting.borrow()
    }

    /// Counts the outcomes of a batch.
    pub(crate) fn count(&self, outcomes: &[Outcome]) {
        let delivered = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
        add(&self.delivered, delivered);
        add(&self.rejected, outcomes.len() - delivered);
    }

    pub(crate) fn failed(&self, reason: String) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is counted here; what the memory and the spool hold is added by the client.
    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sent: read(&self.sent),
            delivered: read(&self.delivered),
            rejected: read(&self.rejected),
            dropped: read(&self.dropped),
            repeated: read(&self.repeated),
            waiting_events: self.waiting(),
            last_failure: self.last_failure(),
            ..Stats::default()
        }
    }
}
