//! Decides whether the clock by which the ages of events are counted can be trusted.
//!
//! Events are removed by the time at which they were stored, which **marks of arrival** tell: rows that say which
//! events were the last ones at which time, by the database's clock. Maintenance adds a mark about once a minute.
//! So the distance between the newest mark and the present is known: it is no longer than the time since this process
//! last updated the marks, which it measures by a monotonic clock. Where the database's clock says otherwise, it was
//! set, and the marks are moved by the difference, so that no event ages by it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two marks: somewhat less than the time between two calls of maintenance.
pub(crate) const MARK_EVERY: Duration = Duration::from_secs(30);
/// How long marks are kept beyond the retention. They tell for how long events have been there that should have been removed,
/// and no more is told than this: after a week an hour more does not matter.
pub(crate) const KEPT_BEYOND: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A difference between the two clocks that is not regarded as a jump: calls take time, and clocks are adjusted.
const TOLERANCE: Duration = Duration::from_secs(60);
/// A process that has just started removes nothing at once if no mark is younger than this and than the retention.
const UNOBSERVED: Duration = Duration::from_secs(600);

/// What is concluded from the distance between the newest mark and the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// The clock can be trusted.
    Steady,
    /// The clock was set forward, or back, by so many microseconds.
    Jumped(i64),
    /// No process updated the marks for longer than the retention: either none ran, or the clock was set meanwhile.
    /// Nothing is removed in this call. If the clock is corrected before the next one, that is noticed.
    Unobserved,
}

/// What a process knows about the marks of arrival.
#[derive(Debug, Default)]
pub(crate) struct RetentionClock {
    /// When this process last updated the marks, by a monotonic clock.
    observed: Mutex<Option<Instant>>,
}

impl RetentionClock {
    /// Compares the database's clock with the time that has passed for this process. `since_newest` are the
    /// microseconds between the newest mark and the present; `None` if there is no mark yet.
    pub fn observe(&self, since_newest: Option<i64>, retention: Option<Duration>) -> Observation {
        let observed = self.lock().map(|observed| observed.elapsed());
        let Some(since_newest) = since_newest else {
            return Observation::Steady;
        };
        if since_newest < -micros(TOLERANCE) {
            return Observation::Jumped(since_newest);
        }
        match (observed, retention) {
            (Some(elapsed), _) if since_newest > micros(elapsed + TOLERANCE) => {
                Observation::Jumped(since_newest - micros(elapsed))
            }
            (None, Some(retention)) if since_newest > micros(retention.max(UNOBSERVED)) => Observation::Unobserved,
            _ => Observation::Steady,
        }
    }

    /// Notes that a mark was added, or that the newest one is young enough.
    pub fn observed(&self) {
        *self.lock() = Some(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what was concluded.
pub(crate) fn log(observation: Observation) {
    match observation {
        Observation::Steady => {}
        Observation::Jumped(by) => tracing::warn!(
            seconds = by / 1_000_000,
            "the database's clock was set: the ages of events are counted without this jump"
        ),
        Observation::Unobserved => tracing::warn!(
            "no event would be younger than the retention: either nothing ran for so long, or the database's clock \
             is wrong. Old events are removed from the next minute on"
        ),
    }
}

/// Returns a duration in microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const DAY: i64 = 24 * 60 * MINUTE;

    fn days(days: u64) -> Option<Duration> {
        Some(Duration::from_secs(days * 24 * 3_600))
    }

    #[test]
    fn a_process_that_ran_all_the_time_notices_every_jump() {
        let clock = RetentionClock::default();
        clock.observed();
        assert_eq!(clock.observe(Some(MINUTE / 2), days(1)), Observation::Steady);
        let Observation::Jumped(by) = clock.observe(Some(3_650 * DAY), days(1)) else { panic!("a jump forward") };
        assert!((3_650 * DAY - MINUTE..=3_650 * DAY).contains(&by), "{by}");
        assert_eq!(clock.observe(Some(-DAY), days(1)), Observation::Jumped(-DAY));
    }

    #[test]
    fn a_process_that_starts_believes_the_clock_unless_everything_would_be_too_old() {
        let clock = RetentionClock::default();
        assert_eq!(clock.observe(None, days(1)), Observation::Steady, "there are no marks yet");
        assert_eq!(clock.observe(Some(DAY / 2), days(1)), Observation::Steady);
        assert_eq!(clock.observe(Some(2 * DAY), days(1)), Observation::Unobserved);
        assert_eq!(clock.observe(Some(2 * DAY), None), Observation::Steady, "nothing is removed");
        assert_eq!(clock.observe(Some(-DAY), None), Observation::Jumped(-DAY), "no mark is from the future");
    }
}
