//! How long to wait before the next attempt after a failure.

use std::time::Duration;

use sluice_event::ambient::random_fraction;

/// Exponential backoff with full jitter: each wait is uniformly random between zero and a bound that doubles
/// from `first` up to `max`, so that the clients of a server that is available again do not all connect at the
/// same time.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    bound: Duration,
}

impl Backoff {
    /// Returns a backoff whose first wait is at most `first`, and none of whose waits is longer
    /// than `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, bound: first.min(max) }
    }

    /// Returns the next wait, and doubles the bound of the one after it.
    #[allow(clippy::should_implement_trait, reason = "an endless source of waits, not a collection")]
    pub fn next(&mut self) -> Duration {
        let wait = self.bound.mul_f64(random_fraction());
        self.bound = self.bound.saturating_mul(2).min(self.max);
        wait
    }

    /// Resets the bound to `first`. Call it after a success.
    pub fn reset(&mut self) {
        self.bound = self.first.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_bound_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        for max in [10, 20, 40, 80, 100, 100] {
            let wait = backoff.next();
            assert!(wait <= Duration::from_millis(max), "{wait:?} is longer than {max} ms");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(10));
    }

    #[test]
    fn waits_differ_from_each_other() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let waits: std::collections::HashSet<_> = (0..10).map(|_| backoff.next()).collect();
        assert!(waits.len() > 5, "{waits:?}");
    }
}
