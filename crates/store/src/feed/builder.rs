//! Building a page of the feed in bounded steps, as [`crate::page`] does for lists.

use std::time::Instant;

use super::cursor::{Cursor, Generation};
use super::query::{FeedPage, FeedQuery};
use crate::page::FILTERED_PAGE_TIME;
use crate::read::StoredEvent;

/// Events in the first step, when their size is not known yet.
const FIRST_STEP_EVENTS: usize = 64;
/// Rows that a step with filters that have no index looks at.
const STEP_ROWS: u32 = 20_000;

/// A step: the oldest events after a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number before the first of the events.
    pub after: i64,
    /// The maximum number of events.
    pub limit: u32,
    /// The number of rows to look at; `None` if every row matches.
    pub rows: Option<u32>,
}

/// A page that is being built.
pub(crate) struct PageBuilder {
    generation: Generation,
    limit: usize,
    max_bytes: usize,
    events: Vec<StoredEvent>,
    bytes: usize,
    /// Everything up to this number is in the page, or does not match.
    reached: i64,
    /// The number of the last event that can be shown.
    end: i64,
    /// Where the page begins, if events may come again.
    repeated_from: Option<i64>,
    full: bool,
    step: Step,
    read: u32,
    began: Instant,
    rows: Option<u32>,
}

impl PageBuilder {
    /// Begins a page after a number, that goes on to the event `end`.
    pub fn new(query: &FeedQuery, generation: Generation, after: i64, end: i64, repeats: bool) -> Self {
        Self {
            generation,
            limit: query.limit as usize,
            max_bytes: query.max_bytes,
            events: Vec::new(),
            bytes: 0,
            reached: after,
            end: end.max(after),
            repeated_from: repeats.then_some(after),
            full: query.limit == 0,
            step: Step { after, limit: 0, rows: None },
            read: 0,
            began: Instant::now(),
            rows: query.has_filter_without_index().then_some(STEP_ROWS),
        }
    }

    /// Returns the number of the last event that can be shown.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Returns the next step; `None` once the page is full, nothing is left or the time is over.
    pub fn next_step(&mut self) -> Option<Step> {
        let late = self.rows.is_some() && self.began.elapsed() >= FILTERED_PAGE_TIME;
        let missing = self.limit.saturating_sub(self.events.len());
        if self.full || late || missing == 0 || self.reached >= self.end {
            return None;
        }
        let fit = match self.events.len() {
            0 => FIRST_STEP_EVENTS,
            // The next events may be larger than the ones before: at most twice as many.
            events => (self.max_bytes.saturating_sub(self.bytes) * events / self.bytes.max(1)).clamp(1, 2 * events),
        };
        self.step =
            Step { after: self.reached, limit: u32::try_from(missing.min(fit)).unwrap_or(u32::MAX), rows: self.rows };
        self.read = 0;
        Some(self.step)
    }

    /// Appends the next event of the step. Returns false if the page is full: then the event is not in it, and the rest of
    /// the step need not be read.
    pub fn push(&mut self, event: StoredEvent) -> bool {
        let size = event.size();
        self.read += 1;
        if !self.events.is_empty() && self.bytes + size > self.max_bytes {
            self.full = true;
            return false;
        }
        self.reached = event.seq;
        self.bytes += size;
        self.events.push(event);
        true
    }

    /// Passes over the next event of the step: it does not belong into the page.
    pub fn skip(&mut self, event: &StoredEvent) {
        self.read += 1;
        self.reached = event.seq;
    }

    /// Returns whether the step has no more events than those that were passed to [`PageBuilder::push`] or
    /// [`PageBuilder::skip`].
    pub fn step_is_read(&self) -> bool {
        self.read == self.step.limit
    }

    /// Ends the step, which looked at all rows up to this number, unless it was full before.
    pub fn end_step(&mut self, upto: i64) {
        if !self.full && !self.step_is_read() {
            self.reached = upto.min(self.end).max(self.reached);
        }
    }

    pub fn build(self) -> FeedPage {
        let cursor = |seq| Cursor { generation: self.generation, seq };
        FeedPage {
            generation: self.generation,
            next: cursor(self.reached),
            more: self.reached < self.end,
            repeated_from: self.repeated_from.map(cursor),
            events: self.events,
        }
    }

    /// Lets the time of the page be over.
    #[cfg(test)]
    fn be_late(&mut self) {
        self.began -= FILTERED_PAGE_TIME;
    }
}

#[cfg(test)]
mod tests {
    use sluice_event::{RequestId, Timestamp};

    use super::*;

    fn event(seq: i64, bytes: usize) -> StoredEvent {
        StoredEvent {
            seq,
            topic: String::new(),
            event_id: String::new(),
            timestamp: Timestamp::now(),
            source: None,
            payload: "x".repeat(bytes),
            received_at: Timestamp::now(),
            request_id: RequestId::random(),
            damaged: false,
            erased: false,
        }
    }

    /// Reads a page after a number from stored events, the oldest first.
    fn read(query: &FeedQuery, stored: &[StoredEvent], after: i64) -> FeedPage {
        let end = stored.last().map_or(0, |event| event.seq);
        let mut page = PageBuilder::new(query, Generation(1), after, end, false);
        while let Some(step) = page.next_step() {
            for event in stored.iter().filter(|event| event.seq > step.after).take(step.limit as usize) {
                if !page.push(event.clone()) {
                    break;
                }
            }
            page.end_step(end);
        }
        page.build()
    }

    #[test]
    fn pages_of_any_size_have_every_event_once_in_order() {
        let stored: Vec<_> = (1..=400).map(|seq| event(seq * 3, if seq > 300 { 3_000 } else { 1 })).collect();
        for (limit, max_bytes) in [(1, 1 << 20), (7, 1 << 20), (1_000, 1), (1_000, 10_000), (1_000, 1 << 20)] {
            let query = FeedQuery { limit, max_bytes, ..FeedQuery::default() };
            let (mut seen, mut after) = (Vec::new(), 0);
            loop {
                let page = read(&query, &stored, after);
                let bytes: usize = page.events.iter().map(StoredEvent::size).sum();
                assert!(page.events.len() <= limit as usize && (bytes <= max_bytes || page.events.len() == 1));
                seen.extend(page.events.iter().map(|event| event.seq));
                after = page.next.seq;
                if !page.more {
                    break;
                }
            }
            assert!(seen.into_iter().eq((1..=400).map(|seq| seq * 3)), "limit {limit}, {max_bytes} bytes");
        }
    }

    #[test]
    fn a_page_whose_time_is_over_goes_on_where_it_stopped() {
        let query = FeedQuery { source: Some("rare".into()), limit: 10, max_bytes: 1 << 20, ..FeedQuery::default() };
        let mut page = PageBuilder::new(&query, Generation(1), 5, 1_000, false);
        assert_eq!(page.next_step().map(|step| step.rows), Some(Some(STEP_ROWS)));
        page.end_step(700);
        page.be_late();
        assert_eq!(page.next_step(), None);
        let page = page.build();
        assert_eq!((page.next.seq, page.more), (700, true));
    }
}
