//! Which requests are traced.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_event::ambient::random_fraction;

use super::Traceparent;

/// Decides which requests are traced: those whose client records its spans too, and a share of those that come without a
/// trace. At most so many begin in a second, because each client can ask for its own, and spans cost more than requests.
#[derive(Debug)]
pub struct Sampling {
    ratio: f64,
    per_second: u32,
    second: Mutex<Option<Second>>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    begun: u32,
}

impl Sampling {
    /// Returns the sampling of this share of the requests without a trace, from 0 to 1, and at most so many traces per second.
    pub fn new(ratio: f64, per_second: u32) -> Self {
        Self { ratio, per_second, second: Mutex::new(None) }
    }

    /// Returns whether a request is traced. A client that says that it does not record its spans is believed.
    pub(crate) fn begins(&self, parent: Option<&Traceparent>) -> bool {
        let is_wanted = match parent {
            Some(parent) => parent.is_sampled,
            None => self.ratio > 0.0 && random_fraction() < self.ratio,
        };
        is_wanted && self.has_room()
    }

    fn has_room(&self) -> bool {
        let now = Instant::now();
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let second = second.get_or_insert(Second { began: now, begun: 0 });
        if now.duration_since(second.began) >= Duration::from_secs(1) {
            *second = Second { began: now, begun: 0 };
        }
        let has_room = second.begun < self.per_second;
        second.begun += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use sluice_event::TraceContext;

    use super::*;

    fn parent(is_sampled: bool) -> Traceparent {
        Traceparent { context: TraceContext { trace_id: [1; 16], span_id: [2; 8] }, is_sampled }
    }

    #[test]
    fn the_client_decides_if_it_has_a_trace_and_chance_if_it_has_none() {
        let (never, always) = (Sampling::new(0.0, u32::MAX), Sampling::new(1.0, u32::MAX));
        assert!(never.begins(Some(&parent(true))) && !never.begins(None));
        assert!(!always.begins(Some(&parent(false))) && always.begins(None));
        let some = Sampling::new(0.25, u32::MAX);
        let begun = (0..10_000).filter(|_| some.begins(None)).count();
        assert!((2_000..3_000).contains(&begun), "{begun}");
    }

    #[test]
    fn no_more_traces_begin_in_a_second_than_the_limit() {
        let sampling = Sampling::new(0.0, 3);
        let began = Instant::now();
        let begun = (0..1_000).filter(|_| sampling.begins(Some(&parent(true)))).count();
        if began.elapsed() < Duration::from_secs(1) {
            assert_eq!(begun, 3);
            std::thread::sleep(Duration::from_secs(1));
            assert!(sampling.begins(Some(&parent(true))), "the next second");
        }
    }
}
