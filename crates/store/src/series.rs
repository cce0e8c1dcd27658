//! Series: what happened to events, by topic and minute of arrival. They are written in the transaction that stores the events,
//! so their sums are those of the counters in every committed state.
//!
//! The minute is that in which the publisher accepted the request. A dead letter that is a whole entry has no topic and no
//! such time: it is counted under the empty topic, in the minute in which it became one.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign};
use std::time::Duration;

use sluice_event::Timestamp;

use crate::Counts;

/// Microseconds of a minute.
const MICROS: i64 = 60_000_000;

/// A minute: the number of whole minutes since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub i64);

impl From<Timestamp> for Minute {
    fn from(time: Timestamp) -> Self {
        Self(time.as_micros().div_euclid(MICROS))
    }
}

impl Minute {
    /// Returns the present minute.
    pub fn now() -> Self {
        Timestamp::now().into()
    }

    /// Returns the minute so long before this one.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_secs() / 60).unwrap_or(i64::MAX)))
    }
}

/// What happened to the events of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeriesCounts {
    /// Those that arrived and were not dead-lettered. Events of a dead letter that is replayed arrive then, and are counted in
    /// the window in which they were accepted.
    pub counts: Counts,
    /// Those that became dead letters.
    pub dead_lettered: u64,
}

impl AddAssign for SeriesCounts {
    fn add_assign(&mut self, other: Self) {
        self.counts = self.counts + other.counts;
        self.dead_lettered += other.dead_lettered;
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            unique: self.unique + other.unique,
            duplicates: self.duplicates + other.duplicates,
            conflicts: self.conflicts + other.conflicts,
        }
    }
}

/// What happened to the events of a batch, by topic and minute of arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchCounts<'a>(BTreeMap<(&'a str, Minute), SeriesCounts>);

impl<'a> BatchCounts<'a> {
    /// Adds to the counts of a topic and a minute.
    pub fn add(&mut self, topic: &'a str, minute: Minute, counts: SeriesCounts) {
        if counts != SeriesCounts::default() {
            *self.0.entry((topic, minute)).or_default() += counts;
        }
    }

    /// Returns the counts of each topic of which events arrived.
    pub fn by_topic(&self) -> BTreeMap<&'a str, Counts> {
        let mut topics = BTreeMap::new();
        for ((topic, _), SeriesCounts { counts, .. }) in &self.0 {
            if counts.received > 0 {
                let sum: &mut Counts = topics.entry(*topic).or_default();
                *sum = *sum + *counts;
            }
        }
        topics
    }

    /// Returns the counts of all events.
    pub fn total(&self) -> Counts {
        self.0.values().fold(Counts::default(), |sum, row| sum + row.counts)
    }

    /// Returns the counts by topic and minute, in this order.
    pub fn rows(&self) -> impl Iterator<Item = (&'a str, Minute, SeriesCounts)> {
        self.0.iter().map(|((topic, minute), counts)| (*topic, *minute, *counts))
    }

    /// Returns whether nothing happened to any event.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A row of an answer, as both databases return it: the minute, received, unique, duplicates, conflicts and dead-lettered.
pub(crate) type SeriesRow = (i64, i64, i64, i64, i64, i64);

/// Reads a row of an answer.
pub(crate) fn of_row(row: SeriesRow) -> (Minute, SeriesCounts) {
    let (minute, received, unique, duplicates, conflicts, dead_lettered) = row;
    let counts = Counts {
        received: received.cast_unsigned(),
        unique: unique.cast_unsigned(),
        duplicates: duplicates.cast_unsigned(),
        conflicts: conflicts.cast_unsigned(),
    };
    (Minute(minute), SeriesCounts { counts, dead_lettered: dead_lettered.cast_unsigned() })
}

/// A question about series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesQuery {
    /// The topics whose counts are added up; `None` is all, and dead letters without a topic.
    pub topics: Option<Vec<String>>,
    /// The first minute.
    pub from: Minute,
    /// The minute after the last one.
    pub to: Minute,
    /// How many minutes are added up: those whose numbers have the same quotient by this.
    pub step: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(received: u64, unique: u64) -> SeriesCounts {
        let counts = Counts { received, unique, duplicates: received - unique, conflicts: 0 };
        SeriesCounts { counts, dead_lettered: 0 }
    }

    #[test]
    fn the_counts_of_a_topic_are_the_sum_of_its_minutes() {
        let mut batch = BatchCounts::default();
        batch.add("a", Minute(1), counts(3, 2));
        batch.add("a", Minute(2), counts(1, 1));
        batch.add("a", Minute(2), counts(4, 0));
        batch.add("b", Minute(2), SeriesCounts { dead_lettered: 1, ..SeriesCounts::default() });
        batch.add("c", Minute(2), SeriesCounts::default());
        assert_eq!(batch.by_topic(), BTreeMap::from([("a", counts(8, 3).counts)]), "no event of b arrived");
        let rows: Vec<_> = batch.rows().map(|(topic, minute, _)| (topic, minute.0)).collect();
        assert_eq!(rows, [("a", 1), ("a", 2), ("b", 2)]);
        assert_eq!(batch.total(), counts(8, 3).counts);
    }

    #[test]
    fn a_minute_begins_at_its_first_microsecond_also_before_1970() {
        for (micros, minute) in [(0, 0), (MICROS - 1, 0), (MICROS, 1), (-1, -1), (-MICROS, -1)] {
            assert_eq!(Minute::from(Timestamp::from_micros(micros).unwrap()), Minute(minute), "{micros}");
        }
        assert_eq!(Minute(100).before(Duration::from_secs(179)), Minute(98));
    }
}
