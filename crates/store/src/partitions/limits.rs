//! When the open partition is closed.

use std::time::Duration;

use super::layout::BATCH_BITS;
use crate::DuePartition;
use crate::overdue::beyond;

/// Partitions into which the time is divided for which events are retained: more of them free the disk sooner.
const PARTITIONS: u32 = 8;
/// The number of batches with which a partition is closed: three quarters of what it has numbers for.
const MAX_BATCHES: i64 = 3 << (BATCH_BITS - 2);

/// When the open partition is closed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The number of events with which it is closed.
    pub rows: u64,
    /// How long events are retained: a partition spans at most an eighth of that.
    pub retention: Option<Duration>,
}

/// The open partition, as far as its limits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenPartition {
    /// Its number.
    pub number: i32,
    /// How many events were stored since it was opened: the counters tell.
    pub events: i64,
    /// How many numbers of batches were given since the first one that belongs into it.
    pub batches: i64,
    /// For how long it has been open, in microseconds.
    pub age: i64,
}

impl Limits {
    /// Returns whether a partition is to be closed. One without a batch is not closed by its age: an idle system needs no new
    /// partitions. Batches of duplicates alone have rows of the audit trail.
    pub fn are_reached_by(&self, OpenPartition { events, batches, age, .. }: &OpenPartition) -> bool {
        let is_old = self.span().is_some_and(|span| u128::try_from(*age).is_ok_and(|age| age >= span.as_micros()));
        u64::try_from(*events).is_ok_and(|events| events >= self.rows.max(1))
            || *batches >= MAX_BATCHES
            || (*events > 0 || *batches > 0) && is_old
    }

    /// Returns the partition, if it should have been closed.
    pub fn due(&self, open: &OpenPartition) -> Option<DuePartition> {
        let too_old_for = self.span().map_or(Duration::ZERO, |span| beyond(Some(open.age), span));
        self.are_reached_by(open).then_some(DuePartition { number: open.number, too_old_for })
    }

    /// Returns how long a partition is open at most.
    fn span(&self) -> Option<Duration> {
        self.retention.map(|retention| retention / PARTITIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_closed_by_its_events_its_batches_or_its_age() {
        let limits = Limits { rows: 10, retention: Some(Duration::from_micros(80)) };
        for (events, batches, age, is_reached) in [
            (9, 0, 9, false),
            (10, 0, 0, true),
            (0, MAX_BATCHES - 1, 0, false),
            (0, MAX_BATCHES, 0, true),
            (1, 0, 10, true),
            (0, 1, 10, true),
            (0, 0, 10, false),
            // A clock that was set back, and counters of a store that was set back.
            (1, 0, -10, false),
            (-1, 0, 10, false),
        ] {
            let open = OpenPartition { number: 1, events, batches, age };
            assert_eq!(limits.are_reached_by(&open), is_reached, "{open:?}");
        }
        let for_ever = Limits { rows: 0, retention: None };
        assert!(!for_ever.are_reached_by(&OpenPartition { number: 1, events: 0, batches: 0, age: i64::MAX }));
        assert!(for_ever.are_reached_by(&OpenPartition { number: 1, events: 1, batches: 0, age: 0 }));
    }

    #[test]
    fn a_partition_is_due_for_as_long_as_it_has_been_too_old() {
        let limits = Limits { rows: 10, retention: Some(Duration::from_micros(80)) };
        let due = |events, age| limits.due(&OpenPartition { number: 7, events, batches: 0, age });
        let too_old_for = |micros| Some(DuePartition { number: 7, too_old_for: Duration::from_micros(micros) });
        assert_eq!((due(9, 9), due(0, 100)), (None, None), "young, and empty");
        assert_eq!((due(10, 0), due(1, 25)), (too_old_for(0), too_old_for(15)), "full, and old");
        let for_ever = Limits { retention: None, ..limits };
        assert_eq!(for_ever.due(&OpenPartition { number: 7, events: 10, batches: 0, age: 99 }), too_old_for(0));
    }
}
