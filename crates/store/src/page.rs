//! Filling a page without holding more of it than a server can afford.

use super::{EventQuery, Page, StoredEvent};

/// A page ends early once it holds so many bytes: a thousand events of the largest payload would
/// be a quarter of a gigabyte, and several clients may ask at once.
const PAGE_BYTES: usize = 16 << 20;
/// Events asked for before their size is known.
const FIRST: usize = 64;

/// A page that is filled by one query after another, each as large as what came before suggests.
pub(super) struct Filling {
    query: EventQuery,
    events: Vec<StoredEvent>,
    bytes: usize,
    more: bool,
}

impl Filling {
    pub fn new(query: &EventQuery) -> Self {
        Self { query: query.clone(), events: Vec::new(), bytes: 0, more: true }
    }

    /// The next query, until the page is full or there are no more events.
    pub fn ask(&self) -> Option<EventQuery> {
        let missing = (self.query.limit as usize).saturating_sub(self.events.len());
        let fit = match self.events.len() {
            0 => FIRST,
            seen => PAGE_BYTES.saturating_sub(self.bytes) * seen / self.bytes.max(1),
        };
        let limit = u32::try_from(missing.min(fit)).unwrap_or(u32::MAX);
        let before = self.events.last().map(|event| event.seq).or(self.query.before);
        (self.more && limit > 0).then(|| EventQuery { before, limit, ..self.query.clone() })
    }

    /// Takes the answer to a query for `limit` events, which is one longer where there are more.
    pub fn take(&mut self, mut events: Vec<StoredEvent>, limit: u32) {
        self.more = events.len() > limit as usize;
        events.truncate(limit as usize);
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.append(&mut events);
    }

    pub fn page(self) -> Page {
        let next = if self.more { self.events.last().map(|event| event.seq) } else { None };
        Page { events: self.events, next }
    }
}

fn size(event: &StoredEvent) -> usize {
    size_of::<StoredEvent>() + event.topic.len() + event.event_id.len() + event.payload.len()
}
