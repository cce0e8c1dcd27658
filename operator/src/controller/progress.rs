//! Whether reconciles still end. Each one has a deadline, so one that does not end shows that the operator itself
//! hangs, and only a restart helps.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long reconciles may run without one of them ending. It is more than twice the longest reconcile, with its
/// writes of the status and of an event.
pub const LIMIT: Duration = Duration::from_secs(300);

/// The reconciles that run.
#[derive(Debug, Default)]
pub struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Since when reconciles have been running and none has ended.
    since: Option<Instant>,
}

/// One reconcile that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Running<'a>(&'a Progress);

impl Progress {
    /// Records that a reconcile begins.
    pub fn begin(&self) -> Running<'_> {
        self.update(|state| {
            state.running += 1;
            state.since.get_or_insert_with(Instant::now);
        });
        Running(self)
    }

    /// Returns the number of reconciles that run.
    pub fn running(&self) -> usize {
        self.update(|state| state.running)
    }

    /// Checks that reconciles end.
    ///
    /// # Errors
    /// If none has ended for longer than [`LIMIT`] although some run.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        let (running, since) = self.update(|state| (state.running, state.since));
        let stuck = since.map(|since| now.saturating_duration_since(since)).filter(|stuck| *stuck > LIMIT);
        stuck.map_or(Ok(()), |stuck| {
            Err(format!("{running} reconciles run and none has ended for {} s: the operator hangs", stuck.as_secs()))
        })
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.update(|state| {
            state.running -= 1;
            state.since = (state.running > 0).then(Instant::now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_that_do_not_end_are_noticed_and_an_idle_operator_is_not() {
        let progress = Progress::default();
        let later = || Instant::now() + LIMIT + Duration::from_secs(1);
        assert_eq!(progress.check(later()), Ok(()), "nothing runs");
        let first = progress.begin();
        let second = progress.begin();
        assert_eq!(progress.check(Instant::now()), Ok(()));
        let message = progress.check(later()).unwrap_err();
        assert_eq!(message, "2 reconciles run and none has ended for 301 s: the operator hangs");
        drop(first);
        assert_eq!(progress.check(Instant::now() + LIMIT / 2), Ok(()), "one has just ended");
        assert!(progress.check(later()).is_err());
        drop(second);
        assert_eq!(progress.check(later()), Ok(()));
    }
}
