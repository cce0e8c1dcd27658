//! Cuts entries that were read into batches. A batch is bounded in events and in bytes, wherever its entries come
//! from: new ones, those of a replica that ended, and those that a stopping replica still holds.

use std::collections::VecDeque;

use sluice_event::compressed;
use sluice_log::Delivered;

/// The largest number of bytes of a batch once its entries are expanded. It bounds the memory of a batch: LZ4 expands
/// an entry to up to 255 times its size. A single entry that is larger is a batch of its own.
pub(crate) const MAX_EXPANDED_BYTES: usize = 16 << 20;
/// Bytes of a batch, as the log delivers them, above which it holds no more events than a batch of new events may
/// hold: then the rows, and not the transaction itself, are what takes the time.
const LARGE_BATCH: usize = 2 << 20;

/// The largest numbers of events in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxEvents {
    /// In a batch of few bytes, most of whose events may be duplicates.
    pub small: u64,
    /// In a batch of many bytes.
    pub large: u64,
}

/// A batch that is being filled.
#[derive(Debug, Default)]
pub(crate) struct BatchCut {
    pub entries: Vec<Delivered>,
    pub events: u64,
    bytes: usize,
    expanded_bytes: usize,
}

impl BatchCut {
    /// Moves entries from the front of the queue into the batch. Returns whether there is room for more.
    pub fn fill(&mut self, queue: &mut VecDeque<Delivered>, max: MaxEvents) -> bool {
        while let Some(next) = queue.front() {
            let (bytes, expanded) = (next.body.len(), compressed::expanded_len(&next.body));
            let fits = self.events + next.events <= max.at(self.bytes + bytes)
                && self.expanded_bytes + expanded <= MAX_EXPANDED_BYTES;
            if !fits && !self.entries.is_empty() {
                return false;
            }
            self.events += next.events;
            self.bytes += bytes;
            self.expanded_bytes += expanded;
            self.entries.extend(queue.pop_front());
        }
        self.events < max.at(self.bytes) && self.expanded_bytes < MAX_EXPANDED_BYTES
    }
}

impl MaxEvents {
    fn at(self, bytes: usize) -> u64 {
        if bytes > LARGE_BATCH { self.small.min(self.large) } else { self.small }
    }
}

/// Takes a batch of at most `events` from the front of the queue. It is empty if the queue is.
pub(crate) fn take_batch(queue: &mut VecDeque<Delivered>, events: u64) -> Vec<Delivered> {
    let mut cut = BatchCut::default();
    cut.fill(queue, MaxEvents { small: events, large: events });
    cut.entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_event::entry::PackedRequest;
    use sluice_event::{EntryId, Event, RequestId, Timestamp};
    use sluice_log::Position;

    /// Entries of one event each, whose payload has this size and compresses well.
    fn entries(number: u64, payload_bytes: usize) -> VecDeque<Delivered> {
        let event = Event {
            topic: "t".into(),
            event_id: "1".into(),
            timestamp: Timestamp::now(),
            source: None,
            payload_hash: sluice_event::PayloadHash::from_bytes([0; 16]),
            payload: "a".repeat(payload_bytes).into(),
        };
        let request = PackedRequest::new(RequestId::random(), None, Timestamp::now(), &[event]);
        let body = compressed::pack(EntryId::random(), [&request].into_iter()).body;
        let entry = |sequence| {
            let position = Position { stream: 0, millis: 1, sequence };
            Delivered { position, body: body.clone().into(), events: 1 }
        };
        (0..number).map(entry).collect()
    }

    fn sizes(mut queue: VecDeque<Delivered>, events: u64) -> Vec<usize> {
        let batches = std::iter::from_fn(|| Some(take_batch(&mut queue, events)).filter(|batch| !batch.is_empty()));
        batches.map(|batch| batch.len()).collect()
    }

    #[test]
    fn a_batch_holds_at_most_so_many_events() {
        assert_eq!(sizes(entries(10, 10), 4), [4, 4, 2]);
        assert_eq!(sizes(entries(0, 10), 4), [0_usize; 0]);
    }

    #[test]
    fn a_batch_is_bounded_by_what_its_entries_expand_to() {
        let five_mib = entries(10, 5 << 20);
        assert!(five_mib[0].body.len() < 100 << 10, "they are small as they are delivered");
        assert_eq!(sizes(five_mib, 1_000), [3, 3, 3, 1]);
    }

    #[test]
    fn an_entry_that_is_too_large_for_any_batch_is_one_of_its_own() {
        assert_eq!(sizes(entries(2, MAX_EXPANDED_BYTES + 1), 1_000), [1, 1]);
        let mut many = entries(2, 10);
        many[0].events = 5_000;
        assert_eq!(sizes(many, 1_000), [1, 1]);
    }
}
