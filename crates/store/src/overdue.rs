//! What maintenance should have done by now and has not. It is measured beside maintenance, on another connection, so that it
//! is known too while maintenance fails, or waits.

use std::time::Duration;

use crate::PartitionFigures;

/// What maintenance should have done by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overdue {
    /// For how long the oldest events have been there that the retention should have removed; zero if there are none. `None`
    /// without a retention.
    pub events: Option<Duration>,
    /// For how long the oldest table of removed events has been there that should have been dropped; zero if there is none.
    /// `None` without a retention, and in a store whose removed events leave no table.
    pub tables: Option<Duration>,
    /// The open partition, if it should have been closed.
    pub partition: Option<DuePartition>,
    /// The partitions as they are; `None` while events do not lie in partitions.
    pub figures: Option<PartitionFigures>,
}

/// An open partition that has reached a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuePartition {
    /// Its number.
    pub number: i32,
    /// For how long it has been too old; zero if it is due by its size alone. For how long it has been too large is known to
    /// nobody who has not watched it.
    pub too_old_for: Duration,
}

/// Returns for how long something has been overdue that is `age` microseconds old and may have `limit`. It is not known to be
/// overdue without an age.
pub(crate) fn beyond(age: Option<i64>, limit: Duration) -> Duration {
    let age = age.and_then(|age| u64::try_from(age).ok()).map_or(Duration::ZERO, Duration::from_micros);
    age.saturating_sub(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_than_its_limit_or_has_no_age_is_not_overdue() {
        let limit = Duration::from_micros(10);
        for (age, overdue) in [(None, 0), (Some(-5), 0), (Some(10), 0), (Some(13), 3)] {
            assert_eq!(beyond(age, limit), Duration::from_micros(overdue), "{age:?}");
        }
    }
}
