//! What everything in a schedule shares: the random numbers, the trace, the violations, and how well the links
//! to the log and to the store work at this time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::trace::Trace;

/// The time at which every schedule begins, in milliseconds since 1970 (2026-01-01).
pub const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// A link that requests and answers travel over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// To the log.
    Log,
    /// To the store.
    Store,
}

/// How a link and the server behind it work at this time. Each ends at a time, counted from the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Condition {
    /// Nothing passes until then.
    pub down_until: Duration,
    /// Many requests and answers are lost until then.
    pub lossy_until: Duration,
    /// The server refuses to write until then.
    pub refuses_until: Duration,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is executed and answered.
    Answered,
    /// It never reaches the server.
    Lost,
    /// It is executed, and its answer is lost.
    AnswerLost,
    /// The sender is told that the connection broke; the server executes the request this much later.
    Late(Duration),
}

/// What everything in a schedule shares.
pub struct World {
    started: Instant,
    rng: Mutex<Xoshiro256PlusPlus>,
    /// The trace, if it is recorded.
    trace: Option<Trace>,
    violations: Mutex<Vec<String>>,
    links: [Mutex<Condition>; 2],
    /// The distance of the log's clock, the store's and the publishers' from the simulated time.
    clocks: [Mutex<i64>; 3],
    /// Requests whose senders were told that the connection broke and that are still to be executed.
    late: Mutex<usize>,
    log_set_back: Mutex<Duration>,
}

/// Locks a mutex. A schedule runs on one thread, so this never waits.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that can jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The log's.
    Log,
    /// The store's.
    Store,
    /// The publishers'.
    Publisher,
}

impl World {
    /// Creates the world of a seed, at the present time of the runtime.
    pub fn new(seed: u64, trace: Option<Trace>) -> Self {
        Self {
            started: Instant::now(),
            rng: Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed)),
            trace,
            violations: Mutex::default(),
            links: Default::default(),
            clocks: Default::default(),
            late: Mutex::default(),
            log_set_back: Mutex::default(),
        }
    }

    /// Returns the simulated time since the schedule began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns milliseconds since 1970 by a clock.
    pub fn millis(&self, clock: Clock) -> u64 {
        let millis = EPOCH_MILLIS + self.elapsed().as_millis() as u64;
        millis.saturating_add_signed(*lock(&self.clocks[clock as usize]))
    }

    /// Moves a clock, at most ten minutes away from the simulated time: what is kept for a time is kept for
    /// an hour, so that no jump shortens it to nothing.
    pub fn jump(&self, clock: Clock, millis: i64) {
        const MOST: i64 = 600_000;
        let mut offset = lock(&self.clocks[clock as usize]);
        let moved = (*offset + millis).clamp(-MOST, MOST);
        if clock == Clock::Log {
            *lock(&self.log_set_back) += Duration::from_millis(offset.saturating_sub(moved).max(0).unsigned_abs());
        }
        *offset = moved;
    }

    /// Returns whether a clock shows the simulated time.
    pub fn is_exact(&self, clock: Clock) -> bool {
        *lock(&self.clocks[clock as usize]) == 0
    }

    /// Returns by how much the log's clock was set back in total. For so long an entry may look younger than it is,
    /// and is not claimed.
    pub fn log_set_back(&self) -> Duration {
        *lock(&self.log_set_back)
    }

    /// Returns true with this probability.
    pub fn chance(&self, probability: f64) -> bool {
        lock(&self.rng).random_bool(probability)
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        lock(&self.rng).random_range(low..=high)
    }

    /// Returns a time from `low` to `high` milliseconds.
    pub fn millis_between(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// Returns an index below `count`.
    pub fn index(&self, count: usize) -> usize {
        lock(&self.rng).random_range(0..count)
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&self, actor: &str, text: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.add(self.elapsed(), actor, &text());
        }
    }

    /// Records that a promise was broken.
    pub fn violation(&self, text: String) {
        self.note("VIOLATION", || text.clone());
        lock(&self.violations).push(text);
    }

    /// Returns the promises that were broken so far.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Returns the condition of a link.
    pub fn condition(&self, link: Link) -> MutexGuard<'_, Condition> {
        lock(&self.links[link as usize])
    }

    /// Returns whether the server behind a link refuses to write.
    pub fn refuses(&self, link: Link) -> bool {
        self.is_before(self.condition(link).refuses_until)
    }

    /// Returns whether nothing passes over a link.
    pub fn is_down(&self, link: Link) -> bool {
        self.is_before(self.condition(link).down_until)
    }

    /// Returns whether a time is still to come. Most times are zero, and then the clock need not be read.
    fn is_before(&self, time: Duration) -> bool {
        !time.is_zero() && self.elapsed() < time
    }

    /// Draws what happens to the next request on a link.
    pub fn fate(&self, link: Link) -> Fate {
        if self.is_down(link) {
            return Fate::Lost;
        }
        let losses = if self.is_before(self.condition(link).lossy_until) { 0.3 } else { 0.01 };
        if !self.chance(losses) {
            return Fate::Answered;
        }
        match self.between(0, 2) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            _ => Fate::Late(self.millis_between(1, 800)),
        }
    }

    /// Waits for as long as a request or an answer travels.
    pub async fn travel(&self) {
        match self.between(0, 99) {
            // Most arrive at once, in an order that the scheduler decides.
            0..=84 => tokio::task::yield_now().await,
            85..=96 => tokio::time::sleep(self.millis_between(1, 4)).await,
            _ => tokio::time::sleep(self.millis_between(5, 300)).await,
        }
    }

    /// Counts a request that will be executed late.
    pub fn late_begins(&self) {
        *lock(&self.late) += 1;
    }

    /// Counts that it was executed.
    pub fn late_ends(&self) {
        *lock(&self.late) -= 1;
    }

    /// Returns how many requests will be executed late.
    pub fn late(&self) -> usize {
        *lock(&self.late)
    }
}
