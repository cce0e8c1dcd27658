//! Chooses how many events make a batch. A transaction has a fixed cost, and a duplicate whose key is in
//! the dedup cache costs nearly nothing: so a batch may hold more events than it inserts rows. How many
//! more follows the share of new events in the last batches.

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_store::Counts;

/// The largest factor by which a batch grows: the one for batches of duplicates alone. Growth is bounded
/// because the next batch may hold new events only, and then its transaction has this many more rows.
const MAX_GROWTH: u64 = 4;
/// The number of events up to which a batch grows. It bounds the memory that a batch takes.
const MAX_EVENTS: u64 = 10_000;
/// The share of new events when all are new. Shares are whole numbers, in parts per thousand.
const ALL_NEW: u64 = 1_000;
/// The divisor of an exponential moving average: the last batch has the weight 1/8, the average before it
/// 7/8. It is the weight of TCP's estimate of the round trip (RFC 6298, section 2).
const SMOOTHING: u64 = 8;

/// The moving average of the share of new events, and the batch size that follows from it. All workers
/// share one.
#[derive(Debug)]
pub struct AdaptiveBatchSize {
    /// The number of rows that a transaction should insert.
    rows: u64,
    /// The average share of new events, from 0 to [`ALL_NEW`].
    new_share: AtomicU64,
}

impl AdaptiveBatchSize {
    /// Returns the size for transactions of `rows` rows. All events are expected to be new at first.
    pub fn new(rows: u64) -> Self {
        Self { rows, new_share: AtomicU64::new(ALL_NEW) }
    }

    /// Returns the largest number of events in the next batch: as many as give about `rows` new events.
    pub fn events(&self) -> u64 {
        let events = self.rows * ALL_NEW / self.new_share.load(Ordering::Relaxed).max(ALL_NEW / MAX_GROWTH);
        events.min(MAX_EVENTS.max(self.rows))
    }

    /// Adds a batch to the average. When two workers do so at once, one of the batches may be ignored,
    /// which does no harm: it is an estimate.
    pub fn learn(&self, counts: &Counts) {
        if let Some(new) = (counts.unique * ALL_NEW).checked_div(counts.received) {
            let before = self.new_share.load(Ordering::Relaxed);
            // Rounded up: rounded down, the average would never reach all-new again.
            self.new_share.store((before * (SMOOTHING - 1) + new).div_ceil(SMOOTHING), Ordering::Relaxed);
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
