//! A bound on how often a kind of line is logged, for lines that clients can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The period in which a number of lines may be logged.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts lines of one kind, and decides which of them are logged.
pub struct LogLimit {
    lines: u32,
    period: Mutex<Option<Period>>,
}

struct Period {
    began: Instant,
    logged: u32,
    left_out: u64,
}

impl LogLimit {
    /// Returns a limit of this number of lines per second.
    pub const fn per_second(lines: u32) -> Self {
        Self { lines, period: Mutex::new(None) }
    }

    /// Returns whether a line may be logged now: if so, with the number of lines left out since the last one, which
    /// belongs in the line; `None` leaves it out and counts it.
    pub fn allow(&self) -> Option<u64> {
        let now = Instant::now();
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        let period = period.get_or_insert(Period { began: now, logged: 0, left_out: 0 });
        if now.duration_since(period.began) >= PERIOD {
            (period.began, period.logged) = (now, 0);
        }
        if period.logged < self.lines {
            period.logged += 1;
            return Some(std::mem::take(&mut period.left_out));
        }
        period.left_out += 1;
        metrics::counter!(crate::metrics::LOG_LINES_LEFT_OUT.name).increment(1);
        None
    }

    /// Counts lines that the caller leaves out itself.
    pub fn leave_out(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        period.get_or_insert(Period { began: Instant::now(), logged: 0, left_out: 0 }).left_out += lines;
        metrics::counter!(crate::metrics::LOG_LINES_LEFT_OUT.name).increment(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_next_line_has_their_number() {
        let limit = LogLimit::per_second(2);
        let began = Instant::now();
        let first: Vec<_> = (0..5).map(|_| limit.allow()).collect();
        if began.elapsed() < PERIOD {
            assert_eq!(first, [Some(0), Some(0), None, None, None]);
            std::thread::sleep(PERIOD);
            assert_eq!(limit.allow(), Some(3));
            assert_eq!(limit.allow(), Some(0));
        }
    }
}
