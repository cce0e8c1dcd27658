//! Warns if another process reads the log under this replica's name. Both would read each other's entries at their
//! starts: nothing is lost or stored twice, but it is slow, and nothing else tells.

use std::time::Duration;

use sluice_log::{ConsumerInfo, LogReader};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::pause;

/// How long to look at the name before this replica reads anything. A replica that runs asks for entries at least once
/// a second.
const OBSERVE: Duration = Duration::from_secs(3);

/// Looks whether a consumer of this name is active, before this replica reads anything. A replica that was killed a
/// moment ago is not: its consumer becomes idle meanwhile. If the name is new, or has long been idle, it returns at
/// once.
pub async fn warn_if_name_is_used(log: &dyn LogReader, name: &str, stop: &CancellationToken) {
    let Some(before) = idle(log, name).await.filter(|idle| *idle < OBSERVE) else { return };
    if !pause(OBSERVE, stop).await {
        return;
    }
    if idle(log, name).await.is_some_and(|after| is_active(before, after)) {
        tracing::warn!(name, "another process reads the log under this name: give each replica its own (--consumer)");
    }
}

/// Returns whether the consumer has asked for entries while it was observed.
fn is_active(before: Duration, after: Duration) -> bool {
    after < before + OBSERVE / 2
}

/// Returns how long the consumer of this name has been idle; `None` if there is none, or the log does not answer.
async fn idle(log: &dyn LogReader, name: &str) -> Option<Duration> {
    match log.consumers().await {
        Ok(consumers) => consumers.into_iter().find(|ConsumerInfo { name: other, .. }| other == name).map(|c| c.idle),
        Err(error) => {
            metrics::log_error("consumers", &error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_became_idle_for_as_long_as_it_was_observed_is_not_active() {
        let millis = Duration::from_millis;
        assert!(!is_active(millis(100), millis(3_100)));
        assert!(is_active(millis(100), millis(900)));
        assert!(is_active(millis(900), millis(1_000)));
    }
}
