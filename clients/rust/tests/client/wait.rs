//! Waits for a condition, never for a fixed time.

use std::time::{Duration, Instant};

use sluice_client::{Delivery, Outcome};

/// How long a condition may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Calls `check` repeatedly until it returns `Ok`, and returns its value. An `Err` describes the state that was seen instead.
pub async fn wait_until<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let seen = match check().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the result of a check: `Ok` when the condition holds, and otherwise the state that was seen.
pub fn holds(condition: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// Returns the outcome of a delivery, which must be known within [`PATIENCE`].
#[track_caller]
pub fn outcome(delivery: Delivery) -> impl Future<Output = Outcome> {
    let place = std::panic::Location::caller();
    let outcome = tokio::time::timeout(PATIENCE, delivery);
    async move { outcome.await.unwrap_or_else(|_| panic!("{place}: no outcome within {PATIENCE:?}")) }
}
