//! The events of one request, and its key.

use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

/// The body of a request, with an event on each line, and the key under which it is repeated.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    key: Uuid,
    body: Bytes,
    /// Where each line ends.
    ends: Vec<u32>,
}

impl Batch {
    /// Takes a body each of whose lines ends with a line feed.
    pub(crate) fn new(key: Uuid, body: Bytes) -> Self {
        let ends = body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u32 + 1).collect();
        Self { key, body, ends }
    }

    pub(crate) fn key(&self) -> Uuid {
        self.key
    }

    /// Returns the number of events.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn all(&self) -> Range<usize> {
        0..self.ends.len()
    }

    /// Returns the lines of these events.
    pub(crate) fn lines(&self, events: &Range<usize>) -> Bytes {
        let start = |event: usize| event.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.body.slice(start(events.start) as usize..start(events.end) as usize)
    }

    /// Returns the key of the request with these events. The same part of the batch always has the same key, so a part is
    /// repeated under it even by another process.
    pub(crate) fn key_of(&self, events: &Range<usize>) -> String {
        if *events == self.all() {
            self.key.to_string()
        } else {
            format!("{}:{}-{}", self.key, events.start, events.end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_has_its_own_lines_and_its_own_key() {
        let batch = Batch::new(Uuid::nil(), Bytes::from_static(b"1\n22\n333\n"));
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.lines(&batch.all()), "1\n22\n333\n");
        assert_eq!(batch.lines(&(0..1)), "1\n");
        assert_eq!(batch.lines(&(1..3)), "22\n333\n");
        assert_eq!(batch.key_of(&(0..3)), "00000000-0000-0000-0000-000000000000");
        assert_eq!(batch.key_of(&(1..3)), "00000000-0000-0000-0000-000000000000:1-3");
    }
}
