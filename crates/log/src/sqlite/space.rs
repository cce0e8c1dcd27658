//! Whether the disk had space when it was last written to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::LogError;

/// How long the log is reported as full after a write that found no space: at first, and at most. Without a wait the
/// next request would find out, and be refused, again and again.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What the last writes found.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<Option<Full>>);

#[derive(Debug)]
struct Full {
    reason: String,
    wait: Duration,
    until: Instant,
}

impl Space {
    /// Takes the result of a write.
    pub fn observe<T>(&self, written: &Result<T, LogError>) {
        let (mut full, now) = (self.full(), Instant::now());
        let over = full.as_ref().is_none_or(|full| now >= full.until);
        match written {
            // Smaller ones may still find space during the wait.
            Ok(_) if over => *full = None,
            Err(LogError::NoSpace(reason)) if over => {
                let wait = full.as_ref().map_or(MIN_WAIT, |full| (full.wait * 2).min(MAX_WAIT));
                *full = Some(Full { reason: reason.clone(), wait, until: now + wait });
            }
            _ => {}
        }
    }

    /// Returns an error while the last write that found no space was a short time ago.
    pub fn check(&self) -> Result<(), LogError> {
        match &*self.full() {
            Some(full) if Instant::now() < full.until => Err(LogError::NoSpace(full.reason.clone())),
            _ => Ok(()),
        }
    }

    fn full(&self) -> MutexGuard<'_, Option<Full>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_that_finds_no_space_after_a_wait_doubles_the_wait() {
        let space = Space::default();
        let no_space = || Err::<(), _>(LogError::NoSpace("the disk is full".into()));
        let wait_is_over = || space.full().as_mut().unwrap().until = Instant::now();
        let wait = || space.full().as_ref().map(|full| full.wait.as_secs());
        space.observe(&no_space());
        space.observe(&no_space());
        assert_eq!(wait(), Some(1), "two writes at once find it out once");
        space.observe(&Ok(()));
        assert!(space.check().is_err(), "a smaller one found space");
        for expected in [2, 4, 8, 16, 30, 30] {
            wait_is_over();
            assert!(space.check().is_ok(), "one write may try");
            space.observe(&no_space());
            assert_eq!((wait(), space.check().is_err()), (Some(expected), true));
        }
        wait_is_over();
        space.observe(&Ok(()));
        assert_eq!((wait(), space.check().is_ok()), (None, true));
    }
}
