//! What the programs of a resource report about its load, for an estimate. It is measured beside the reconciles, and only
//! where an upgrade or a restore is asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a measurement counts. Aggregators that have stopped report nothing more.
const VALID: Duration = Duration::from_secs(600);
/// The span over which the rate of arrivals is measured.
const SPAN: Duration = Duration::from_secs(60);
/// The shortest such span.
const MIN_SPAN: Duration = Duration::from_secs(5);

/// What is known about the load of a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Bytes of the tables and indexes.
    pub database_bytes: Option<i64>,
    /// Events that arrive in a second.
    pub events_per_second: Option<f64>,
    /// Bytes of an event in the log.
    pub event_bytes: Option<f64>,
    /// The share of its memory that Redis uses.
    pub memory_ratio: Option<f64>,
    /// Events that are accepted and not stored yet.
    pub backlog: Option<i64>,
}

/// The latest measurements, by the uid of the resource.
#[derive(Debug, Default)]
pub struct Measurements(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    measured: Measured,
    at: Instant,
    /// Events that had been accepted, at several times.
    accepted: Vec<(Instant, i64)>,
}

impl Measurements {
    /// Records a measurement. `accepted` is the number of events that were ever accepted. What is not known now stays as
    /// it was. Returns whether it is the first one.
    pub fn note(&self, uid: &str, new: Measured, accepted: Option<i64>, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !all.contains_key(uid);
        let entry = all.entry(uid.to_owned()).or_insert_with(|| Entry {
            measured: Measured::default(),
            at: now,
            accepted: Vec::new(),
        });
        entry.at = now;
        entry.accepted.retain(|(at, _)| now.saturating_duration_since(*at) <= SPAN);
        entry.accepted.extend(accepted.map(|accepted| (now, accepted)));
        let old = entry.measured;
        entry.measured = Measured {
            database_bytes: new.database_bytes.or(old.database_bytes),
            events_per_second: new.events_per_second.or_else(|| rate(&entry.accepted)).or(old.events_per_second),
            event_bytes: new.event_bytes.or(old.event_bytes),
            memory_ratio: new.memory_ratio.or(old.memory_ratio),
            backlog: new.backlog.or(old.backlog),
        };
        is_first
    }

    /// Returns what is known about a resource.
    pub fn get(&self, uid: &str, now: Instant) -> Option<Measured> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.get(uid).filter(|entry| now.saturating_duration_since(entry.at) < VALID)?;
        Some(entry.measured)
    }

    /// Forgets what is older than counts.
    pub fn forget(&self, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, entry| now.saturating_duration_since(entry.at) < VALID);
    }
}

/// Returns how many events arrive in a second.
fn rate(accepted: &[(Instant, i64)]) -> Option<f64> {
    let ((first, before), (last, after)) = (accepted.first()?, accepted.last()?);
    let span = last.saturating_duration_since(*first);
    (span >= MIN_SPAN).then(|| (after - before).max(0) as f64 / span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_arrivals_is_that_of_the_last_minute_and_stays_when_nothing_is_reported_any_more() {
        let (all, start) = (Measurements::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let rate = |second| all.get("uid", at(second)).and_then(|measured| measured.events_per_second);
        assert!(all.note("uid", Measured::default(), Some(1_000), at(0)));
        assert_eq!(rate(0), None, "one number is no rate");
        assert!(!all.note("uid", Measured::default(), Some(3_000), at(10)));
        assert_eq!(rate(10), Some(200.0));
        all.note("uid", Measured { database_bytes: Some(7), ..Measured::default() }, None, at(200));
        assert_eq!((rate(200), all.get("uid", at(200)).and_then(|all| all.database_bytes)), (Some(200.0), Some(7)));
        assert_eq!(all.get("uid", at(900)), None, "it is too old");
        all.forget(at(900));
        assert!(all.note("uid", Measured::default(), None, at(900)));
    }
}
