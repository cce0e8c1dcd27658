//! Building a page without holding more of it in memory than a server can afford.

use super::{EventQuery, Page, StoredEvent};

/// The size at which a page ends early: a thousand events with the largest payload would be a quarter of a
/// gigabyte, and several clients may query at once.
const PAGE_BYTES: usize = 16 << 20;
/// Events in the first query, when their size is not known yet: even the largest payloads fill no more than
/// the page may have.
const FIRST_QUERY_EVENTS: usize = 64;

/// A page built by several queries, each for as many events as the size of the previous ones suggests.
pub(super) struct PageBuilder {
    query: EventQuery,
    events: Vec<StoredEvent>,
    bytes: usize,
    more: bool,
}

impl PageBuilder {
    pub fn new(query: &EventQuery) -> Self {
        Self { query: query.clone(), events: Vec::new(), bytes: 0, more: true }
    }

    /// Returns the next query; `None` once the page is full or there are no more events.
    pub fn next_query(&self) -> Option<EventQuery> {
        let missing = (self.query.limit as usize).saturating_sub(self.events.len());
        let fit = match self.events.len() {
            0 => FIRST_QUERY_EVENTS,
            events => PAGE_BYTES.saturating_sub(self.bytes) * events / self.bytes.max(1),
        };
        let limit = u32::try_from(missing.min(fit)).unwrap_or(u32::MAX);
        let before = self.events.last().map(|event| event.seq).or(self.query.before);
        (self.more && limit > 0).then(|| EventQuery { before, limit, ..self.query.clone() })
    }

    /// Appends the result of a query for `limit` events, which has one event more if there are more.
    pub fn append(&mut self, mut events: Vec<StoredEvent>, limit: u32) {
        self.more = events.len() > limit as usize;
        events.truncate(limit as usize);
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.append(&mut events);
    }

    pub fn build(self) -> Page {
        let next = if self.more { self.events.last().map(|event| event.seq) } else { None };
        Page { events: self.events, next }
    }
}

fn size(event: &StoredEvent) -> usize {
    size_of::<StoredEvent>() + event.topic.len() + event.event_id.len() + event.payload.len()
}
