//! The entries that are delivered and not acknowledged, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Delivered, Position};

/// The consumer's state.
pub(super) struct Deliveries {
    state: Mutex<State>,
}

struct State {
    /// The sequence of the last entry that was delivered.
    last: u64,
    pending: BTreeMap<Position, Delivery>,
    /// The last position of the current round of claims.
    claimed_to: Option<Position>,
    read_at: Instant,
}

/// An entry in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    since: Instant,
    times: u64,
}

impl Default for Deliveries {
    fn default() -> Self {
        let state = State { last: 0, pending: BTreeMap::new(), claimed_to: None, read_at: Instant::now() };
        Self { state: Mutex::new(state) }
    }
}

impl Deliveries {
    pub fn last(&self) -> u64 {
        self.state().last
    }

    pub fn pending(&self) -> u64 {
        self.state().pending.len() as u64
    }

    pub fn since_read(&self) -> Duration {
        self.state().read_at.elapsed()
    }

    /// Marks entries as in flight.
    pub fn deliver(&self, entries: &[Delivered]) {
        let mut state = self.state();
        state.read_at = Instant::now();
        for entry in entries {
            state.last = state.last.max(entry.position.sequence);
            state.pending.insert(entry.position, Delivery { since: Instant::now(), times: 1 });
        }
    }

    /// Returns up to `max` entries that have been in flight for longer than `idle`, continuing from the last call;
    /// and whether the round is complete.
    pub fn idle(&self, idle: Duration, max: usize) -> (Vec<Position>, bool) {
        let mut state = self.state();
        let from = state.claimed_to.map_or(Bound::Unbounded, Bound::Excluded);
        let held = state.pending.range((from, Bound::Unbounded)).filter(|(_, held)| held.since.elapsed() >= idle);
        let found: Vec<_> = held.map(|(position, _)| *position).take(max).collect();
        let complete = found.len() < max;
        state.claimed_to = if complete { None } else { found.last().copied() };
        (found, complete)
    }

    /// Delivers an entry again, if it is still in flight for longer than `idle`; returns whether it was delivered.
    pub fn claim(&self, position: Position, idle: Duration) -> bool {
        match self.state().pending.get_mut(&position).filter(|held| held.since.elapsed() >= idle) {
            Some(held) => {
                *held = Delivery { since: Instant::now(), times: held.times + 1 };
                true
            }
            None => false,
        }
    }

    /// Resets the idle time of entries that are still in flight.
    pub fn extend_claim(&self, positions: &[Position]) {
        let mut state = self.state();
        for position in positions {
            if let Some(held) = state.pending.get_mut(position) {
                held.since = Instant::now();
            }
        }
    }

    /// Returns how often each entry was delivered; 0 for one that is not pending.
    pub fn times(&self, positions: &[Position]) -> Vec<u64> {
        let state = self.state();
        positions.iter().map(|position| state.pending.get(position).map_or(0, |held| held.times)).collect()
    }

    /// Removes and returns an entry in flight, if it is there.
    pub fn take(&self, position: Position) -> Option<Delivery> {
        self.state().pending.remove(&position)
    }

    /// Inserts an entry that was removed, with its former state.
    pub fn restore(&self, position: Position, held: Delivery) {
        self.state().pending.insert(position, held);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
