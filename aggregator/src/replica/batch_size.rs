//! How many events make a batch. Transactions cost the same whatever they hold, and duplicates that are
//! known cost next to nothing: so a batch may hold more events than rows, as the last ones did.

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_store::Counts;

/// By how much a batch of nothing but duplicates is larger.
const MAX_TIMES: u64 = 4;
/// Events up to which a batch grows, for the sake of its memory.
const MAX_EVENTS: u64 = 10_000;
/// The share of one.
const ONE: u64 = 1_000;
/// How much one batch counts beside those before it: one part of so many.
const MEMORY: u64 = 8;

/// Follows the share of new events in what is stored; shared by the workers.
#[derive(Debug)]
pub struct AdaptiveBatchSize {
    rows: u64,
    /// New events per [`ONE`] received.
    new: AtomicU64,
}

impl AdaptiveBatchSize {
    /// For `rows` in a transaction.
    pub fn new(rows: u64) -> Self {
        Self { rows, new: AtomicU64::new(ONE) }
    }

    /// Events in the next batch, at most: those that will be about as many rows as there may be.
    pub fn events(&self) -> u64 {
        let events = self.rows * ONE / self.new.load(Ordering::Relaxed).max(ONE / MAX_TIMES);
        events.min(MAX_EVENTS.max(self.rows))
    }

    /// Learns from a batch. Two that do so at once may forget one of them, which does no harm.
    pub fn learn(&self, counts: &Counts) {
        if let Some(new) = (counts.unique * ONE).checked_div(counts.received) {
            let before = self.new.load(Ordering::Relaxed);
            // Upwards, or it would never come back to one.
            self.new.store((before * (MEMORY - 1) + new).div_ceil(MEMORY), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rows: u64, received: u64, unique: u64) -> u64 {
        let batch_size = AdaptiveBatchSize::new(rows);
        for _ in 0..100 {
            batch_size.learn(&Counts { received, unique, duplicates: received - unique, conflicts: 0 });
        }
        batch_size.events()
    }

    #[test]
    fn batches_of_new_events_hold_as_many_as_rows() {
        assert_eq!(after(2_400, 2_400, 2_400), 2_400);
        assert_eq!(after(2_400, 0, 0), 2_400);
    }

    #[test]
    fn with_duplicates_batches_grow_until_their_rows_are_as_many_or_four_times_as_large() {
        assert!((4_700..=4_900).contains(&after(2_400, 2_400, 1_200)), "{}", after(2_400, 2_400, 1_200));
        assert_eq!(after(2_400, 2_400, 0), 9_600);
        assert_eq!(after(10, 10, 1), 40);
    }

    #[test]
    fn when_duplicates_end_batches_are_as_small_as_before() {
        let batch_size = AdaptiveBatchSize::new(2_400);
        for unique in [0; 100].into_iter().chain([1; 100]) {
            batch_size.learn(&Counts { received: 1, unique, duplicates: 1 - unique, conflicts: 0 });
        }
        assert_eq!(batch_size.events(), 2_400);
    }

    #[test]
    fn a_batch_grows_to_ten_thousand_events_and_is_not_made_smaller_than_asked() {
        assert_eq!(after(8_000, 100, 0), 10_000);
        assert_eq!(after(50_000, 100, 0), 50_000);
    }
}
