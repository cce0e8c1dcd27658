//! Chooses how many entries to request from the log. Only their number can be requested, and an entry may hold one
//! small event or eight megabytes, so the number follows the sizes of the entries that were read last.

use std::time::Duration;

use sluice_log::{Delivered, LogError};
use tokio::time::Instant;

/// The number of entries in the first read, when nothing is known about their sizes.
const FIRST_ENTRIES: usize = 8;
/// The bytes that one answer of the log should have, as it delivers them.
const ANSWER_BYTES: usize = 8 << 20;
/// The time after which the sizes that were read last say nothing about the next entries: while nobody read,
/// many large ones may have been appended.
const STALE_AFTER: Duration = Duration::from_millis(250);

/// The number of entries to request in the next read.
#[derive(Debug)]
pub(crate) struct ReadSize {
    entries: usize,
    max_entries: usize,
    /// The number that was requested last.
    requested: usize,
    read_at: Instant,
}

impl ReadSize {
    /// Returns the size for reads of at most `max_entries`.
    pub fn new(max_entries: usize) -> Self {
        let entries = FIRST_ENTRIES.min(max_entries);
        Self { entries, max_entries, requested: entries, read_at: Instant::now() }
    }

    /// Returns the number of entries to request now.
    pub fn entries(&mut self) -> usize {
        self.entries_after(self.read_at.elapsed())
    }

    fn entries_after(&mut self, pause: Duration) -> usize {
        self.requested = if pause < STALE_AFTER { self.entries } else { self.entries.min(FIRST_ENTRIES) };
        self.requested
    }

    /// Learns from a read of as many entries as [`Self::entries`] returned, which should hold about `events` events.
    /// The number at most doubles, because the next entries may be larger. A read that was not answered in time is
    /// repeated with half as many, down to one.
    pub fn learn(&mut self, read: Result<&[Delivered], &LogError>, events: u64) {
        let requested = self.requested;
        self.read_at = Instant::now();
        self.entries = match read {
            Ok(entries) => {
                let Some(largest) = entries.iter().map(|entry| entry.events.max(1)).max() else { return };
                let bytes = entries.iter().map(|entry| entry.body.len().max(1)).max().unwrap_or(1);
                let fitting = usize::try_from(events / largest).unwrap_or(usize::MAX).min(ANSWER_BYTES / bytes);
                fitting.clamp(1, (requested * 2).min(self.max_entries))
            }
            Err(LogError::Unavailable(_)) => (requested / 2).max(1),
            Err(_) => requested,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_log::Position;

    fn entries(number: usize, events: u64, bytes: usize) -> Vec<Delivered> {
        let position = Position { stream: 0, millis: 1, sequence: 1 };
        vec![Delivered { position, body: vec![0; bytes].into(), events }; number]
    }

    fn after(size: &mut ReadSize, read: &[Delivered]) -> usize {
        size.learn(Ok(read), 2_400);
        size.entries_after(Duration::ZERO)
    }

    #[test]
    fn the_number_doubles_while_entries_are_small_and_falls_at_once_when_they_are_large() {
        let mut size = ReadSize::new(128);
        let small = entries(8, 1, 100);
        assert_eq!([after(&mut size, &small), after(&mut size, &small)], [16, 32]);
        assert_eq!([after(&mut size, &small), after(&mut size, &small), after(&mut size, &small)], [64, 128, 128]);
        assert_eq!(after(&mut size, &entries(1, 1_000, 100)), 2, "by their events");
        assert_eq!(after(&mut size, &entries(1, 1, 8 << 20)), 1, "by their bytes");
    }

    #[test]
    fn a_read_that_is_not_answered_is_repeated_with_half_as_many_down_to_one() {
        let mut size = ReadSize::new(32);
        let mut requested = Vec::new();
        for _ in 0..5 {
            requested.push(size.entries_after(Duration::ZERO));
            size.learn(Err(&LogError::Unavailable("no answer".into())), 2_400);
        }
        assert_eq!(requested, [8, 4, 2, 1, 1]);
        assert_eq!(after(&mut size, &entries(1, 1, 100)), 2);
    }

    #[test]
    fn after_a_pause_few_are_requested_because_they_may_be_large() {
        let mut size = ReadSize::new(128);
        for _ in 0..4 {
            after(&mut size, &entries(8, 1, 100));
        }
        assert_eq!(size.entries_after(STALE_AFTER / 2), 128);
        assert_eq!(size.entries_after(STALE_AFTER), FIRST_ENTRIES);
    }
}
