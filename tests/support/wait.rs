//! Waits for a condition, never for a fixed time.

use std::time::{Duration, Instant};

/// Calls `check` repeatedly until it returns `Ok`, and returns its value. An `Err` describes the state that was
/// observed instead; the panic contains the last of them when `deadline` passes.
pub async fn wait_until<T, F, C>(what: &str, deadline: Duration, mut check: C) -> T
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    let mut seen = "nothing yet".to_owned();
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(state)) => seen = state,
            Err(_) => panic!("{what}: not within {deadline:?}; the last check had not answered; before: {seen}"),
        }
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}; last seen: {seen}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Like [`wait_until`], for code outside an async runtime.
pub fn wait_blocking<T>(what: &str, deadline: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(seen) => assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the result of a check for [`wait_until`]: `Ok` when the condition holds, and otherwise the observed
/// state.
pub fn holds(condition: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(seen()) }
}
