//! The times at which requests are due.

use std::time::Duration;

/// A mean rate, in bursts or evenly distributed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Events per second; 0 is unbounded.
    pub(crate) rate: u32,
    /// The number of events sent at once; if absent, events are evenly distributed.
    pub(crate) burst: Option<u32>,
}

impl Pace {
    /// Returns the time after the start at which an event is due, from the number of events before it.
    pub(crate) fn due(&self, before: u64) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let before = self.burst.map_or(before, |burst| before - before % u64::from(burst));
        Duration::from_secs_f64(before as f64 / f64::from(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_events_evenly_and_a_burst_gathers_them() {
        let due = |rate, burst| {
            let pace = Pace { rate, burst };
            [0, 100, 499, 500, 1_000].map(|before| pace.due(before).as_millis())
        };
        assert_eq!(due(0, None), [0; 5]);
        assert_eq!(due(1_000, None), [0, 100, 499, 500, 1_000]);
        assert_eq!(due(1_000, Some(500)), [0, 0, 0, 500, 1_000]);
    }
}
