//! Chooses the number of aggregators by the backlog. Replicas are added at once, and removed only when fewer
//! have been sufficient for the stabilization time. An unknown backlog changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::crd::Autoscaling;

/// The latest decision for each resource, by its uid.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<HashMap<String, Scaler>>);

impl Decisions {
    /// Returns the latest decision; `None` before the first observation of a backlog.
    pub fn get(&self, uid: &str) -> Option<i32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).map(|scaler| scaler.decided)
    }

    /// Decides again, and returns the decision if it has not been passed on yet. `current` is the number that is
    /// requested now.
    pub fn observe(
        &self,
        uid: &str,
        scaling: &Autoscaling,
        current: i32,
        backlog: Option<i64>,
        now: Instant,
    ) -> Option<i32> {
        let mut scalers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scaler = scalers.entry(uid.to_owned()).or_insert_with(|| Scaler::new(current, now));
        let decided = scaler.decide(scaling, backlog, now);
        (decided != scaler.passed_on).then_some(decided)
    }

    /// Records that a reconcile has been requested for this decision.
    pub fn passed_on(&self, uid: &str, decided: i32) {
        if let Some(scaler) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(uid) {
            scaler.passed_on = decided;
        }
    }

    /// Forgets resources that were deleted or do not scale any more.
    pub fn forget<'a>(&self, uids: impl IntoIterator<Item = &'a String>) {
        let mut scalers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for uid in uids {
            scalers.remove(uid);
        }
    }
}

/// One resource's number of aggregators.
#[derive(Debug)]
struct Scaler {
    decided: i32,
    /// The decision for which a reconcile has been requested last.
    passed_on: i32,
    /// The number that would have been sufficient, at each observation within the window.
    sufficed: VecDeque<(Instant, i32)>,
}

impl Scaler {
    /// Starts with the current number, as if it had been needed until now.
    fn new(current: i32, now: Instant) -> Self {
        Self { decided: current, passed_on: current, sufficed: VecDeque::from([(now, current)]) }
    }

    fn decide(&mut self, scaling: &Autoscaling, backlog: Option<i64>, now: Instant) -> i32 {
        let (min, max) = (scaling.min_replicas, scaling.max_replicas.max(scaling.min_replicas));
        if let Some(backlog) = backlog {
            self.sufficed.push_back((now, enough(scaling, backlog).clamp(min, max)));
            let window = Duration::from_secs(u64::try_from(scaling.stabilization_seconds).unwrap_or(0));
            while self.sufficed.len() > 1 && self.sufficed.front().is_some_and(|(at, _)| now - *at > window) {
                self.sufficed.pop_front();
            }
            let (_, latest) = self.sufficed.back().copied().unwrap_or((now, self.decided));
            let needed_lately = self.sufficed.iter().map(|(_, count)| *count).max().unwrap_or(latest);
            self.decided = if latest >= self.decided { latest } else { needed_lately.min(self.decided) };
        }
        self.decided = self.decided.clamp(min, max);
        self.decided
    }
}

/// Returns the number with which no replica has more than the target backlog.
fn enough(scaling: &Autoscaling, backlog: i64) -> i32 {
    let target = scaling.target_backlog.max(1);
    i32::try_from(backlog.max(0).div_euclid(target) + i64::from(backlog % target > 0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALING: Autoscaling =
        Autoscaling { min_replicas: 1, max_replicas: 5, target_backlog: 100, stabilization_seconds: 60 };

    struct Run {
        scaler: Scaler,
        start: Instant,
    }

    impl Run {
        fn starting_with(current: i32) -> Self {
            let start = Instant::now();
            Self { scaler: Scaler::new(current, start), start }
        }

        fn at(&mut self, second: u64, backlog: Option<i64>) -> i32 {
            self.scaler.decide(&SCALING, backlog, self.start + Duration::from_secs(second))
        }
    }

    #[test]
    fn a_growing_backlog_adds_aggregators_at_once_and_within_bounds() {
        let mut run = Run::starting_with(1);
        assert_eq!(run.at(0, Some(100)), 1);
        assert_eq!(run.at(10, Some(101)), 2);
        assert_eq!(run.at(20, Some(450)), 5);
        assert_eq!(run.at(30, Some(1_000_000_000_000)), 5);
    }

    #[test]
    fn aggregators_go_only_when_fewer_have_sufficed_for_the_whole_window() {
        let mut run = Run::starting_with(1);
        assert_eq!(run.at(0, Some(500)), 5);
        assert_eq!(run.at(10, Some(0)), 5);
        assert_eq!(run.at(30, Some(290)), 5, "a short pause removes no aggregators");
        assert_eq!(run.at(59, Some(0)), 5);
        assert_eq!(run.at(61, Some(0)), 3, "three were needed half a minute ago");
        assert_eq!(run.at(92, Some(0)), 1);
    }

    #[test]
    fn an_unknown_backlog_changes_nothing() {
        let mut run = Run::starting_with(4);
        assert_eq!(run.at(0, None), 4);
        assert_eq!(run.at(1_000, None), 4);
    }

    #[test]
    fn a_restarted_operator_does_not_scale_down_at_once() {
        let mut run = Run::starting_with(4);
        assert_eq!(run.at(1, Some(0)), 4);
        assert_eq!(run.at(59, Some(0)), 4);
        assert_eq!(run.at(62, Some(0)), 1);
    }

    #[test]
    fn bounds_that_were_changed_hold_at_once() {
        let mut run = Run::starting_with(9);
        assert_eq!(run.at(0, None), 5);
        let from_zero = Autoscaling { min_replicas: 0, ..SCALING };
        let mut scaler = Scaler::new(0, run.start);
        assert_eq!(scaler.decide(&from_zero, Some(0), run.start), 0);
        assert_eq!(scaler.decide(&from_zero, Some(1), run.start), 1, "one event is enough to start an aggregator");
    }
}
