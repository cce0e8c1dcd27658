//! How long to wait before a request is repeated.

use std::time::Duration;

/// The longest `Retry-After` that is followed: a wrong header must not stop a client for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Exponential backoff with full jitter: each wait is random between zero and a bound that doubles, so that the clients of a
/// server that is available again do not all come at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    bound: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { bound: first.min(max), max }
    }

    /// Returns the next wait, which is never shorter than the server asked for.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let jitter = self.bound.mul_f64(rand::random());
        self.bound = self.bound.saturating_mul(2).min(self.max);
        retry_after.unwrap_or_default().min(MAX_RETRY_AFTER) + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_grow_up_to_the_bound() {
        let mut backoff = Backoff::new(10 * MS, 100 * MS);
        for max in [10, 20, 40, 80, 100, 100] {
            let wait = backoff.next(None);
            assert!(wait <= max * MS, "{wait:?} is longer than {max} ms");
        }
    }

    #[test]
    fn waits_are_random_and_not_shorter_than_the_server_asks_for() {
        let mut backoff = Backoff::new(100 * MS, 100 * MS);
        let waits: std::collections::HashSet<_> = (0..10).map(|_| backoff.next(Some(1_000 * MS))).collect();
        assert!(waits.len() > 5 && waits.iter().all(|wait| (1_000 * MS..=1_100 * MS).contains(wait)), "{waits:?}");
    }

    #[test]
    fn a_server_cannot_stop_a_client_for_a_day() {
        assert!(Backoff::new(MS, MS).next(Some(Duration::from_secs(86_400))) <= MAX_RETRY_AFTER + MS);
    }
}
