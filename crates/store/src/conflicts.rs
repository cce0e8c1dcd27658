//! Events that came under a key that was stored with another payload: what was in them can be read for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_event::{Event, EventKey, RequestId, Timestamp};

/// The largest number of conflicts of a batch that are kept, and of the bytes of their payloads. A client can cause any number.
const MAX_OF_BATCH: usize = 100;
const MAX_BYTES_OF_BATCH: usize = 1 << 20;
/// The bytes of payloads that a process keeps in a second: what is beyond the bound of all conflicts is removed once a minute.
const MAX_BYTES_PER_SECOND: usize = 1 << 20;
static RATE: Rate = Rate::new(MAX_BYTES_PER_SECOND);

/// An event that was dropped because another payload is stored under its key.
#[derive(Debug, Clone, Copy)]
pub struct NewConflict<'a> {
    /// The dedup key.
    pub key: EventKey,
    /// The event that was dropped.
    pub event: &'a Event<'a>,
    /// When the publisher accepted it.
    pub received_at: Timestamp,
    /// The request it came with.
    pub request_id: RequestId,
}

/// The conflicts of a batch, as many as are kept.
#[derive(Debug, Default)]
pub(crate) struct Kept<'a> {
    conflicts: Vec<NewConflict<'a>>,
    bytes: usize,
}

impl<'a> Kept<'a> {
    /// Adds a conflict, unless there are too many.
    pub fn add(&mut self, conflict: NewConflict<'a>) {
        let size = conflict.event.payload.len();
        let bytes = self.bytes + size;
        if self.conflicts.len() < MAX_OF_BATCH && bytes <= MAX_BYTES_OF_BATCH && RATE.allows(size) {
            self.bytes = bytes;
            self.conflicts.push(conflict);
        }
    }

    /// Returns those that are kept.
    pub fn all(&self) -> &[NewConflict<'a>] {
        &self.conflicts
    }
}

/// Bounds bytes per second.
struct Rate {
    max: usize,
    /// The present second, and the bytes in it.
    second: Mutex<Option<(Instant, usize)>>,
}

impl Rate {
    const fn new(max: usize) -> Self {
        Self { max, second: Mutex::new(None) }
    }

    /// Returns whether so many bytes are allowed now, and counts them if they are. The first of a second are, however many.
    fn allows(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *second {
            Some((began, spent)) if now.duration_since(*began) < Duration::from_secs(1) => {
                let is_allowed = *spent < self.max;
                *spent += if is_allowed { bytes } else { 0 };
                is_allowed
            }
            other => {
                *other = Some((now, bytes));
                true
            }
        }
    }
}

/// How many conflicts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictLimits {
    /// How long they are kept.
    pub retention: Duration,
    /// How many bytes they may have together, about. The oldest are removed first.
    pub bytes: u64,
}

impl Default for ConflictLimits {
    fn default() -> Self {
        Self { retention: Duration::from_secs(7 * 86_400), bytes: 64 << 20 }
    }
}

/// A conflict as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConflict {
    /// Later ones have greater numbers.
    pub id: i64,
    /// When the event was dropped.
    pub seen_at: Timestamp,
    /// As sent.
    pub topic: String,
    /// As sent.
    pub event_id: String,
    /// As sent, in UTC.
    pub timestamp: Timestamp,
    /// As sent.
    pub source: Option<String>,
    /// JSON text, as sent.
    pub payload: String,
    /// When the publisher accepted it.
    pub received_at: Timestamp,
    /// The request it came with.
    pub request_id: RequestId,
}

/// A query for conflicts, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConflictQuery {
    /// Only of this topic.
    pub topic: Option<String>,
    /// Only of this event id.
    pub event_id: Option<String>,
    /// Only conflicts with a smaller id: the end of the previous page.
    pub before: Option<i64>,
    /// The largest number of them.
    pub limit: u32,
}

/// A page of conflicts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConflictPage {
    /// Newest first.
    pub conflicts: Vec<StoredConflict>,
    /// [`ConflictQuery::before`] of the next page; `None` if there are no more.
    pub next: Option<i64>,
}

impl ConflictPage {
    /// The number of bytes at which a page ends.
    pub(crate) const BYTES: usize = 1 << 20;

    /// Adds a conflict to a page of a query. Returns whether there is room for more.
    pub(crate) fn push(&mut self, conflict: StoredConflict, limit: u32, bytes: &mut usize) -> bool {
        if self.conflicts.len() >= limit as usize || *bytes >= Self::BYTES {
            self.next = self.conflicts.last().map(|last| last.id);
            return false;
        }
        *bytes += conflict.payload.len() + conflict.topic.len() + conflict.event_id.len();
        self.conflicts.push(conflict);
        true
    }
}

#[cfg(test)]
mod tests {
    use sluice_event::PayloadHash;

    use super::*;

    #[test]
    fn the_conflicts_of_a_batch_are_bounded_in_number_and_bytes() {
        let event = |bytes: usize| Event {
            topic: "t".into(),
            event_id: "1".into(),
            timestamp: Timestamp::UNIX_EPOCH,
            source: None,
            payload: "1".repeat(bytes).into(),
            payload_hash: PayloadHash::from_u128(1),
        };
        let kept = |bytes, count: usize| {
            let event = event(bytes);
            let mut kept = Kept::default();
            for _ in 0..count {
                let key = EventKey::from_u128(1);
                let (received_at, request_id) = (Timestamp::UNIX_EPOCH, RequestId::from_u128(0));
                kept.add(NewConflict { key, event: &event, received_at, request_id });
            }
            kept.all().len()
        };
        assert_eq!((kept(1, 99), kept(1, 500)), (99, 100));
        assert_eq!(kept((1 << 20) + 1, 5), 0);
    }

    #[test]
    fn the_bytes_of_a_second_are_bounded() {
        let (rate, began) = (Rate::new(10), Instant::now());
        let allowed: Vec<_> = [20, 1, 1].into_iter().map(|bytes| rate.allows(bytes)).collect();
        if began.elapsed() < Duration::from_secs(1) {
            assert_eq!(allowed, [true, false, false]);
            std::thread::sleep(Duration::from_secs(1));
        }
        assert!(rate.allows(9) && rate.allows(9));
    }
}
