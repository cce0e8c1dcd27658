//! Who waits for the outcome of a batch that is in the spool.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::outcome::Outcome;

/// How many there may be before those that nobody awaits are looked for.
const FEW: usize = 1_000;

/// The senders of the outcomes, by the key of the batch.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Uuid, Vec<oneshot::Sender<Outcome>>>,
    number: usize,
    /// The number at which those that nobody awaits are removed.
    limit: usize,
}

impl Waiters {
    /// Remembers who waits. A spool can hold far more events than the memory: of a delivery that was given up nothing is kept
    /// for long.
    pub(crate) fn insert(&self, key: Uuid, outcomes: Vec<oneshot::Sender<Outcome>>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.number += outcomes.len();
        state.by_key.insert(key, outcomes);
        if state.number > state.limit.max(FEW) {
            state.by_key.retain(|_, senders| senders.iter().any(|sender| !sender.is_closed()));
            state.by_key.shrink_to_fit();
            state.number = state.by_key.values().map(Vec::len).sum();
            state.limit = 2 * state.number;
        }
    }

    /// Tells the outcomes of a batch to those who wait for them.
    pub(crate) fn tell(&self, key: Uuid, outcomes: Vec<Outcome>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(senders) = state.by_key.remove(&key) else { return };
        state.number -= senders.len();
        for (sender, outcome) in senders.into_iter().zip(outcomes) {
            let _ = sender.send(outcome);
        }
    }

    /// Forgets all, who then know that their events are in the spool.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_that_were_given_up_do_not_take_memory() {
        let waiters = Waiters::default();
        let (kept, receiver) = oneshot::channel();
        waiters.insert(Uuid::nil(), vec![kept]);
        for key in 1..10_000 {
            waiters.insert(Uuid::from_u128(key), vec![oneshot::channel().0]);
        }
        let number = waiters.0.lock().unwrap().by_key.len();
        assert!(number <= FEW + 1, "{number}");
        waiters.tell(Uuid::nil(), vec![Outcome::Delivered]);
        assert_eq!(receiver.blocking_recv(), Ok(Outcome::Delivered));
    }
}
