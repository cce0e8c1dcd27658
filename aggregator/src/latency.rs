//! How long events took from the time at which a publisher accepted them to the commit that stored them, during the last
//! minute, for `/overview`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_event::Timestamp;
use sluice_store::commit::Batch;

/// The time that is looked back.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// The window moves in steps of this length.
const STEP: Duration = Duration::from_secs(5);
const STEPS: usize = 12;
/// The upper bound of the first bucket, in seconds.
const FIRST_BUCKET: f64 = 0.001;
/// Each bucket reaches so much further than the one before it, so that a quantile is too large by a tenth at most.
const GROWTH: f64 = 1.1;
/// The last bucket begins at about an hour and has no bound.
const BUCKETS: usize = 160;

/// The latencies of the last minute. The workers of a replica share it.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<Option<Window>>);

/// The latencies of a minute, in seconds. A quantile is the upper bound of its bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantiles {
    /// The number of events.
    pub events: u64,
    /// Half of the events took no longer.
    pub p50: f64,
    /// Of a hundred events 99 took no longer.
    pub p99: f64,
    /// The longest time.
    pub max: f64,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    /// The number of the last step to which something was added, from `began` on.
    last: u64,
    steps: [Step; STEPS],
}

#[derive(Debug, Clone, Copy)]
struct Step {
    events: [u64; BUCKETS],
    max: f64,
}

impl Step {
    const EMPTY: Self = Self { events: [0; BUCKETS], max: 0.0 };
}

impl Latency {
    /// Adds the events of a batch that was committed just now.
    pub fn record(&self, batch: &Batch<'_>) {
        let now = Timestamp::now();
        let requests = batch.entries.iter().flat_map(|(_, entry)| &entry.requests);
        self.add(
            requests.map(|request| {
                // The clocks of two machines differ: what seems to be stored before it came took no time.
                let micros = now.as_micros().saturating_sub(request.accepted_at.as_micros()).max(0);
                (micros as f64 / 1e6, request.events.len() as u64)
            }),
            Instant::now(),
        );
    }

    /// Returns the quantiles of the last minute; `None` if nothing was stored in it.
    pub fn quantiles(&self) -> Option<Quantiles> {
        self.quantiles_at(Instant::now())
    }

    fn add(&self, latencies: impl Iterator<Item = (f64, u64)>, now: Instant) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step = window.get_or_insert_with(|| Window::new(now)).step_at(now);
        for (seconds, events) in latencies {
            step.events[bucket(seconds)] += events;
            step.max = step.max.max(seconds);
        }
    }

    fn quantiles_at(&self, now: Instant) -> Option<Quantiles> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.as_mut()?;
        window.step_at(now);
        let mut events = [0; BUCKETS];
        for step in &window.steps {
            events.iter_mut().zip(step.events).for_each(|(sum, events)| *sum += events);
        }
        let max = window.steps.iter().map(|step| step.max).fold(0.0, f64::max);
        let total: u64 = events.iter().sum();
        let quantile = |percent: u64| {
            let mut rest = (total * percent).div_ceil(100);
            let reached = events.iter().position(|&events| {
                let is_reached = rest <= events;
                rest = rest.saturating_sub(events);
                is_reached
            });
            reached.map_or(max, bound).min(max)
        };
        (total > 0).then(|| Quantiles { events: total, p50: quantile(50), p99: quantile(99), max })
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { began: now, last: 0, steps: [Step::EMPTY; STEPS] }
    }

    /// Returns the step of a time, after removing what is older than the window.
    fn step_at(&mut self, now: Instant) -> &mut Step {
        let current = (now.saturating_duration_since(self.began).as_millis() / STEP.as_millis()) as u64;
        let passed = current.saturating_sub(self.last).min(STEPS as u64);
        for step in 1..=passed {
            self.steps[((self.last + step) % STEPS as u64) as usize] = Step::EMPTY;
        }
        // Where more steps have passed than there are, all of them are empty.
        self.last = self.last.max(current);
        &mut self.steps[(self.last % STEPS as u64) as usize]
    }
}

fn bucket(seconds: f64) -> usize {
    let bucket = (seconds / FIRST_BUCKET).max(1.0).log(GROWTH).ceil();
    (bucket as usize).min(BUCKETS - 1)
}

fn bound(bucket: usize) -> f64 {
    if bucket == BUCKETS - 1 { f64::INFINITY } else { FIRST_BUCKET * GROWTH.powi(bucket as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_events_and_too_large_by_a_tenth_at_most() {
        let (latency, now) = (Latency::default(), Instant::now());
        assert_eq!(latency.quantiles_at(now), None);
        latency.add((1..=1000).map(|n| (f64::from(n) / 1000.0, 1)), now);
        let Quantiles { events, p50, p99, max } = latency.quantiles_at(now).expect("events were stored");
        assert_eq!((events, max), (1000, 1.0));
        assert!((0.5..=0.55).contains(&p50), "{p50}");
        assert!((0.99..=1.0).contains(&p99), "{p99}");
        // A request counts as often as it has events.
        latency.add([(10.0, 9_000), (1e9, 1)].into_iter(), now);
        let Quantiles { p50, p99, max, .. } = latency.quantiles_at(now).expect("events were stored");
        assert!((10.0..=11.0).contains(&p50) && (10.0..=11.0).contains(&p99), "{p50} {p99}");
        assert_eq!(max, 1e9);
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let (latency, now) = (Latency::default(), Instant::now());
        latency.add([(1.0, 5)].into_iter(), now);
        latency.add([(0.1, 5)].into_iter(), now + Duration::from_secs(30));
        let events = |seconds| latency.quantiles_at(now + Duration::from_secs(seconds)).map(|found| found.events);
        assert_eq!(events(55), Some(10));
        assert_eq!(events(60), Some(5));
        assert_eq!(events(89), Some(5));
        assert_eq!(events(90), None);
        latency.add([(0.1, 7)].into_iter(), now + Duration::from_secs(3600));
        assert_eq!(events(3601), Some(7));
    }
}
