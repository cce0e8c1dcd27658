//! The figure of one group in one window.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Damaged;
use crate::decimal::Decimal;
use crate::definition::Aggregation;

/// The time of a latest value that was erased. No event is as early, so that any other value is later.
const FORGOTTEN: i64 = i64::MIN;

/// A figure. Two of one meter can be added, and what the sum is does not depend on the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    /// The number of events.
    Count(u64),
    /// The number and sum of values, also for their average.
    Sum(u64, Decimal),
    /// The number of values and the least one.
    Min(u64, Decimal),
    /// The number of values and the greatest one.
    Max(u64, Decimal),
    /// The number of values, the latest one, and its time in µs since 1970: [`FORGOTTEN`] if the latest one was erased.
    Latest(u64, i64, Decimal),
    /// The number of values, and the hashes of the different ones.
    Unique(u64, Hashes),
}

/// Hashes of different values. Their number is bounded: then some are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    hashes: BTreeSet<u64>,
    /// The number of values that were left out, each of which may be a new one or not.
    left_out: u64,
}

/// What a figure shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The number of events that it is made of.
    pub events: u64,
    /// The figure itself.
    pub value: Decimal,
    /// Whether it is exact: `unique` is a lower bound if hashes were left out.
    pub is_exact: bool,
    /// Whether the value was erased with its event: the latest one was. Then `value` is zero.
    pub is_erased: bool,
}

impl Figure {
    /// Returns the figure of one event that has the value of a number.
    pub(crate) fn of_number(aggregation: Aggregation, value: Decimal, micros: i64) -> Self {
        match aggregation {
            Aggregation::Sum | Aggregation::Avg => Self::Sum(1, value),
            Aggregation::Min => Self::Min(1, value),
            Aggregation::Max => Self::Max(1, value),
            Aggregation::Latest => Self::Latest(1, micros, value),
            Aggregation::Count | Aggregation::Unique => Self::Count(1),
        }
    }

    /// Returns the figure of one event of which only the hash of its value counts.
    pub(crate) fn of_hash(hash: u64) -> Self {
        Self::Unique(1, Hashes { hashes: BTreeSet::from([hash]), left_out: 0 })
    }

    /// Returns how many hashes it has.
    pub fn hashes(&self) -> usize {
        if let Self::Unique(_, Hashes { hashes, .. }) = self { hashes.len() } else { 0 }
    }

    /// Leaves out hashes so that there are at most `max`.
    pub(crate) fn leave_out_hashes(&mut self, max: usize) {
        if let Self::Unique(_, Hashes { hashes, left_out }) = self {
            while hashes.len() > max {
                hashes.pop_last();
                *left_out += 1;
            }
        }
    }

    /// Removes the latest value if it is that of another figure. Returns whether it was.
    pub(crate) fn forget_latest(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Latest(_, at, value), Self::Latest(_, other_at, other)) if at == other_at && value == other => {
                (*at, *value) = (FORGOTTEN, Decimal::ZERO);
                true
            }
            _ => false,
        }
    }

    /// Adds another figure of the same meter. At most `room` hashes become more.
    ///
    /// # Errors
    /// [`Damaged`] if it is a figure of another aggregation.
    pub fn add(&mut self, other: Self, room: usize) -> Result<(), Damaged> {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(count, sum), Self::Sum(more, other)) => {
                *count += more;
                *sum += &other;
            }
            (Self::Min(count, least), Self::Min(more, other)) => {
                *count += more;
                if other < *least {
                    *least = other;
                }
            }
            (Self::Max(count, greatest), Self::Max(more, other)) => {
                *count += more;
                if other > *greatest {
                    *greatest = other;
                }
            }
            (Self::Latest(count, at, value), Self::Latest(more, other_at, other)) => {
                *count += more;
                if (other_at, &other) > (*at, &*value) {
                    (*at, *value) = (other_at, other);
                }
            }
            (Self::Unique(count, hashes), Self::Unique(more, other)) => {
                *count += more;
                hashes.add(other, room);
            }
            _ => return Err(Damaged),
        }
        Ok(())
    }

    /// Returns what the figure shows.
    pub fn shown(&self, aggregation: Aggregation) -> Shown {
        let exact = |events: u64, value| Shown { events, value, is_exact: true, is_erased: false };
        match self {
            Self::Count(count) => exact(*count, Decimal::from(*count)),
            Self::Sum(count, sum) if aggregation == Aggregation::Avg => {
                exact(*count, sum.divided_by(*count).unwrap_or(Decimal::ZERO))
            }
            Self::Sum(count, value) | Self::Min(count, value) | Self::Max(count, value) => exact(*count, value.clone()),
            Self::Latest(count, at, value) => Shown { is_erased: *at == FORGOTTEN, ..exact(*count, value.clone()) },
            Self::Unique(events, Hashes { hashes, left_out }) => {
                Shown { is_exact: *left_out == 0, ..exact(*events, Decimal::from(hashes.len() as u64)) }
            }
        }
    }
}

impl Hashes {
    fn add(&mut self, other: Self, room: usize) {
        self.left_out += other.left_out;
        let max = self.hashes.len().saturating_add(room);
        for hash in other.hashes {
            if self.hashes.len() < max {
                self.hashes.insert(hash);
            } else if !self.hashes.contains(&hash) {
                self.left_out += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(aggregation: Aggregation, value: &str, micros: i64) -> Figure {
        Figure::of_number(aggregation, Decimal::parse(value).unwrap(), micros)
    }

    fn total(aggregation: Aggregation, figures: impl Iterator<Item = Figure>) -> (u64, String) {
        let total = figures.reduce(|mut sum, figure| {
            sum.add(figure, usize::MAX).unwrap();
            sum
        });
        let Shown { events, value, is_exact, .. } = total.unwrap().shown(aggregation);
        assert!(is_exact);
        (events, value.to_string())
    }

    #[test]
    fn figures_are_the_same_in_whatever_order_they_are_added() {
        let values = [("1.5", 3), ("-2", 7), ("10", 7), ("9", 5)];
        for (aggregation, expected) in [
            (Aggregation::Sum, "18.5"),
            (Aggregation::Avg, "4.625"),
            (Aggregation::Min, "-2"),
            (Aggregation::Max, "10"),
            (Aggregation::Latest, "10"),
            (Aggregation::Count, "4"),
        ] {
            let figures = values.map(|(value, micros)| number(aggregation, value, micros));
            let expected = (4, expected.to_owned());
            assert_eq!(total(aggregation, figures.clone().into_iter()), expected, "{aggregation:?}");
            assert_eq!(total(aggregation, figures.into_iter().rev()), expected, "{aggregation:?}");
        }
        assert_eq!(total(Aggregation::Unique, [1, 2, 1].into_iter().map(Figure::of_hash)), (3, "2".to_owned()));
    }

    #[test]
    fn hashes_beyond_the_bound_are_left_out_and_said() {
        let mut figure = Figure::of_hash(1);
        figure.add(Figure::of_hash(1), 0).unwrap();
        assert!(figure.shown(Aggregation::Unique).is_exact, "it is there already");
        figure.add(Figure::of_hash(2), 0).unwrap();
        let Shown { events, value, is_exact, .. } = figure.shown(Aggregation::Unique);
        assert_eq!((events, value.to_string(), is_exact), (3, "1".to_owned(), false));
    }

    #[test]
    fn a_latest_value_is_forgotten_until_there_is_a_later_one() {
        let latest = |value, micros| number(Aggregation::Latest, value, micros);
        let mut figure = latest("1", 5);
        figure.add(latest("2", 7), 0).unwrap();
        assert!(
            !figure.forget_latest(&latest("1", 5)) && !figure.forget_latest(&latest("2", 5)),
            "it is not the latest"
        );
        assert!(figure.forget_latest(&latest("2", 7)));
        let shown = figure.shown(Aggregation::Latest);
        assert_eq!((shown.events, shown.is_erased), (2, true));
        for _ in 0..2 {
            // A value from before the erased one is not known any more, and a later one is shown.
            figure.add(latest("-3", 1), 0).unwrap();
        }
        let shown = figure.shown(Aggregation::Latest);
        assert_eq!((shown.events, shown.value.to_string(), shown.is_erased), (4, "-3".to_owned(), false));
    }

    #[test]
    fn a_figure_of_another_aggregation_is_not_added() {
        assert_eq!(Figure::of_hash(1).add(Figure::Count(1), 1), Err(Damaged));
    }
}
