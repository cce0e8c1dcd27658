//! How many requests and events a subject may send in a second.
//!
//! Each is a token bucket that holds what a second allows. A request with more events than that is let through when its
//! bucket is full, and leaves a debt: the crate `governor` would refuse it for ever. The state belongs to the name of the
//! subject, so that several tokens of one name share it, and each server counts on its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_service::problem::Problem;

use crate::problems::rate_limited;

/// The maximum number of subjects whose buckets are in memory.
const MAX_SUBJECTS: usize = 10_000;

/// What a subject may send in a second; `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    pub(crate) requests: Option<u32>,
    pub(crate) events: Option<u32>,
}

impl Rates {
    /// Returns these rates, and the others where there is none.
    pub(crate) fn or(self, others: Self) -> Self {
        Self { requests: self.requests.or(others.requests), events: self.events.or(others.events) }
    }
}

/// The buckets of all subjects.
#[derive(Default)]
pub(crate) struct Limits {
    subjects: Mutex<HashMap<Arc<str>, Buckets>>,
}

#[derive(Default)]
struct Buckets {
    requests: Option<Bucket>,
    events: Option<Bucket>,
}

impl Buckets {
    /// Returns when all of them will be full.
    fn full_at(&self) -> Option<Instant> {
        [&self.requests, &self.events].into_iter().flatten().map(|bucket| bucket.full_at).max()
    }
}

/// What is left of a second's allowance.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below 0 it is a debt.
    left: f64,
    at: Instant,
    /// When it will hold all of it again, so that nothing is lost if it is forgotten.
    full_at: Instant,
}

impl Bucket {
    fn full(rate: f64, now: Instant) -> Self {
        Self { left: rate, at: now, full_at: now }
    }

    /// Takes an amount, or returns how long to wait until it can be taken.
    fn take(&mut self, amount: f64, rate: f64, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * rate).min(rate);
        self.at = now;
        let needed = amount.min(rate);
        if self.left < needed {
            return Err(Duration::from_secs_f64((needed - self.left) / rate));
        }
        self.left -= amount;
        self.full_at = now + Duration::from_secs_f64((rate - self.left) / rate);
        Ok(())
    }
}

impl Limits {
    /// Counts a request.
    ///
    /// # Errors
    /// The problem of a subject that sends too many.
    pub(crate) fn request(&self, name: &Arc<str>, rate: u32) -> Result<(), Problem> {
        let taken = self.take(name, 1.0, rate, Instant::now(), |buckets| &mut buckets.requests);
        taken.map_err(|wait| rate_limited("requests", rate, wait))
    }

    fn take(
        &self,
        name: &Arc<str>,
        amount: f64,
        rate: u32,
        now: Instant,
        bucket: impl FnOnce(&mut Buckets) -> &mut Option<Bucket>,
    ) -> Result<(), Duration> {
        let rate = f64::from(rate);
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if subjects.len() >= MAX_SUBJECTS && !subjects.contains_key(name) {
            make_room(&mut subjects, now);
        }
        let buckets = subjects.entry(name.clone()).or_default();
        bucket(buckets).get_or_insert_with(|| Bucket::full(rate, now)).take(amount, rate, now)
    }
}

/// Forgets the subjects whose buckets are full: they start with full ones again. If more than half are left, those go
/// whose buckets will be full soonest: they may send what a second allows once more. So somebody with many names cannot
/// have the debt of another forgotten, and this is not done again before many more names have come.
fn make_room(subjects: &mut HashMap<Arc<str>, Buckets>, now: Instant) {
    subjects.retain(|_, buckets| buckets.full_at() > Some(now));
    if subjects.len() > MAX_SUBJECTS / 2 {
        let mut full_at: Vec<_> = subjects.values().map(Buckets::full_at).collect();
        let removed = full_at.len() - MAX_SUBJECTS / 2;
        let (_, first, _) = full_at.select_nth_unstable(removed);
        let first = *first;
        subjects.retain(|_, buckets| buckets.full_at() > first);
    }
}

/// The limit of a subject's events. It is in the extensions of a request whose subject has one.
#[derive(Clone)]
pub struct EventLimit {
    limits: Arc<Limits>,
    name: Arc<str>,
    rate: u32,
}

impl EventLimit {
    pub(crate) fn new(limits: &Arc<Limits>, name: &Arc<str>, rate: u32) -> Self {
        Self { limits: limits.clone(), name: name.clone(), rate }
    }

    /// Counts events.
    ///
    /// # Errors
    /// The problem of a subject that sends too many.
    pub fn take(&self, events: usize) -> Result<(), Problem> {
        let taken =
            self.limits.take(&self.name, events as f64, self.rate, Instant::now(), |buckets| &mut buckets.events);
        taken.map_err(|wait| rate_limited("events", self.rate, wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_second_allows_can_be_taken_at_once_and_then_again_as_it_grows() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut bucket = Bucket::full(10.0, began);
        for number in 0..10 {
            assert_eq!(bucket.take(1.0, 10.0, began), Ok(()), "{number}");
        }
        assert_eq!(bucket.take(1.0, 10.0, began), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(1.0, 10.0, at(101)), Ok(()));
        assert!(bucket.take(1.0, 10.0, at(102)).is_err());
        // A pause does not save up more than a second.
        let taken = (0..100).filter(|_| bucket.take(1.0, 10.0, at(60_000)).is_ok()).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn more_than_a_second_allows_passes_when_the_bucket_is_full_and_is_paid_off_afterwards() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut bucket = Bucket::full(10.0, began);
        assert_eq!(bucket.take(100.0, 10.0, began), Ok(()));
        assert_eq!(bucket.take(1.0, 10.0, began), Err(Duration::from_millis(9_100)));
        assert_eq!(bucket.take(100.0, 10.0, at(9)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(100.0, 10.0, at(10)), Ok(()));
    }

    #[test]
    fn what_one_subject_sends_takes_nothing_from_another() {
        let limits = Limits::default();
        let now = Instant::now();
        let take = |name: &str, amount| limits.take(&name.into(), amount, 1, now, |buckets| &mut buckets.events);
        assert_eq!(take("debtor", 1_000.0), Ok(()));
        assert_eq!(take("debtor", 1.0), Err(Duration::from_secs(1_000)));
        assert_eq!(take("other", 1.0), Ok(()));
    }

    #[test]
    fn the_number_of_subjects_in_memory_is_bounded_and_those_in_debt_are_kept() {
        let limits = Limits::default();
        let began = Instant::now();
        let take = |name: &str, amount, now| limits.take(&name.into(), amount, 1, now, |buckets| &mut buckets.events);
        assert_eq!(take("debtor", 1_000.0, began), Ok(()));
        for number in 0..3 * MAX_SUBJECTS {
            // Each is idle for long enough before the next thousand comes.
            let now = began + Duration::from_millis(number as u64 / 100);
            let _ = take(&format!("n{number}"), 1.0, now);
        }
        let soon = began + Duration::from_secs(10);
        assert!(limits.subjects.lock().unwrap().len() <= MAX_SUBJECTS);
        for number in 0..3 * MAX_SUBJECTS {
            let _ = take(&format!("m{number}"), 1.0, soon + Duration::from_secs(number as u64 / 1_000));
        }
        assert!(limits.subjects.lock().unwrap().len() <= MAX_SUBJECTS);
    }

    #[test]
    fn the_largest_debts_are_kept_when_as_many_subjects_are_in_debt_as_are_in_memory() {
        let limits = Limits::default();
        let now = Instant::now();
        let take = |name: &str, amount| limits.take(&name.into(), amount, 1, now, |buckets| &mut buckets.events);
        assert_eq!(take("debtor", 1_000.0), Ok(()));
        for number in 0..3 * MAX_SUBJECTS {
            assert_eq!(take(&format!("n{number}"), 5.0), Ok(()));
            assert!(limits.subjects.lock().unwrap().len() <= MAX_SUBJECTS);
        }
        assert!(take("debtor", 1.0).is_err());
    }

    #[test]
    fn a_subject_in_debt_is_not_forgotten_to_make_room() {
        let now = Instant::now();
        let mut subjects = HashMap::new();
        let bucket = |left| {
            let mut bucket = Bucket::full(10.0, now);
            assert_eq!(bucket.take(10.0 - left, 10.0, now), Ok(()));
            Buckets { events: Some(bucket), ..Buckets::default() }
        };
        subjects.insert("debtor".into(), bucket(-100.0));
        subjects.insert("idle".into(), bucket(10.0));
        make_room(&mut subjects, now);
        assert_eq!(subjects.keys().map(|name: &Arc<str>| &**name).collect::<Vec<_>>(), ["debtor"]);
    }
}
