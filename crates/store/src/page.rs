//! Building a page of events in steps, each of which is bounded: in the events and bytes that it holds, and in the
//! rows that it looks at.
//!
//! `seq` and `topic` have indexes, so without other filters a page is read from its beginning. `source`, `since` and
//! `until` have none: rows are looked at one after another, some thousands in a step, until the page is full or its
//! time is over. Then the page ends early, maybe empty, and the next one goes on from there. So every query ends,
//! however few rows match. docs/decisions/0013 says why there are no indexes.
//!
//! The events of several topics, which are those of a subject that is bounded by topics, are merged by the index on
//! `(topic, seq)`. If the topics are too many for that, all rows are looked at as if there were no index.

use std::time::{Duration, Instant};

use super::{EventQuery, Page, StoredEvent};

/// The size at which a page ends early: a thousand events with the largest payload would be a quarter of a
/// gigabyte, and several clients may query at once.
pub const PAGE_BYTES: usize = 16 << 20;
/// Events in the first step, when their size is not known yet: even the largest payloads of the default settings
/// fill no more than the page may have.
const FIRST_STEP_EVENTS: usize = 64;
/// The time after which a page with filters that have no index begins no further step.
pub const FILTERED_PAGE_TIME: Duration = Duration::from_secs(2);
/// Rows that a step with such filters looks at: at first, and at most. A step that took less than `SHORT_STEP` is
/// followed by one of more rows, and a step that took longer than `LONG_STEP` by one of fewer.
const MIN_ROWS: u32 = 10_000;
const MAX_ROWS: u32 = 160_000;
const SHORT_STEP: Duration = Duration::from_millis(50);
const LONG_STEP: Duration = Duration::from_millis(400);

/// A step: the newest events below a `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The `seq` after the last of the events.
    pub before: i64,
    /// The maximum number of events.
    pub limit: u32,
    /// The number of rows to look at; `None` if every row matches.
    pub rows: Option<u32>,
}

/// A page built in several steps, each for as many events as the size of the previous ones suggests.
pub(super) struct PageBuilder {
    limit: usize,
    max_bytes: usize,
    events: Vec<StoredEvent>,
    bytes: usize,
    /// Everything from this `seq` on is in the page, or does not match.
    before: i64,
    /// Whether events below `before` may match.
    more: bool,
    full: bool,
    /// The step that is being read, and the number of its events.
    step: Step,
    read: u32,
    began: Instant,
    /// The number of rows that the next step looks at; `None` if every row matches.
    rows: Option<u32>,
}

impl PageBuilder {
    pub fn new(query: &EventQuery) -> Self {
        let before = query.before.unwrap_or(i64::MAX);
        Self {
            limit: query.limit as usize,
            max_bytes: query.max_bytes.unwrap_or(PAGE_BYTES).min(PAGE_BYTES),
            events: Vec::new(),
            bytes: 0,
            before,
            more: query.limit > 0,
            full: false,
            step: Step { before, limit: 0, rows: None },
            read: 0,
            began: Instant::now(),
            rows: query.ends_by_time().then_some(MIN_ROWS),
        }
    }

    /// Returns the next step; `None` once the page is full, nothing is left or the time is over.
    pub fn next_step(&mut self) -> Option<Step> {
        if !self.more || self.full || (self.rows.is_some() && self.began.elapsed() >= FILTERED_PAGE_TIME) {
            return None;
        }
        // One more than the page may have tells whether there is a next page.
        let missing = self.limit + 1 - self.events.len();
        let fit = match self.events.len() {
            0 => FIRST_STEP_EVENTS,
            // The next events may be larger than the ones before: at most twice as many.
            events => (self.max_bytes.saturating_sub(self.bytes) * events / self.bytes.max(1)).clamp(1, 2 * events),
        };
        let limit = u32::try_from(missing.min(fit)).unwrap_or(u32::MAX);
        self.step = Step { before: self.before, limit, rows: self.rows };
        self.read = 0;
        Some(self.step)
    }

    /// Appends the next event of the step. Returns false if the page is full: then the event is not in it, and the
    /// rest of the step need not be read.
    pub fn push(&mut self, event: StoredEvent) -> bool {
        let size = event.size();
        self.read += 1;
        if self.events.len() == self.limit || (!self.events.is_empty() && self.bytes + size > self.max_bytes) {
            self.full = true;
            return false;
        }
        self.before = event.seq;
        self.bytes += size;
        self.events.push(event);
        true
    }

    /// Passes over the next event of the step: it does not belong into the page.
    pub fn skip(&mut self, event: &StoredEvent) {
        self.read += 1;
        self.before = event.seq;
    }

    /// Returns whether the step has no more events than those that were passed to [`PageBuilder::push`] or
    /// [`PageBuilder::skip`].
    pub fn step_is_read(&self) -> bool {
        self.read == self.step.limit
    }

    /// Ends the step, which looked at all rows from this `seq` on, unless it was full before, and took so long. `None`
    /// are all rows that there are.
    pub fn end_step(&mut self, from: Option<i64>, took: Duration) {
        if !self.full && !self.step_is_read() {
            self.more = from.is_some();
            self.before = from.unwrap_or(self.before);
        }
        self.rows = self.rows.map(|rows| match took {
            took if took < SHORT_STEP => (rows * 4).min(MAX_ROWS),
            took if took > LONG_STEP => (rows / 2).max(MIN_ROWS / 10),
            _ => rows,
        });
    }

    pub fn build(self) -> Page {
        Page { events: self.events, next: self.more.then_some(self.before) }
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

    fn query(limit: u32) -> EventQuery {
        EventQuery { limit, ..EventQuery::default() }
    }

    /// Answers the steps of a page from stored events, newest first. Returns the page, and the number of rows that
    /// the longest step looked at.
    fn read(query: &EventQuery, stored: &[StoredEvent], matches: impl Fn(&StoredEvent) -> bool) -> (Page, usize) {
        let mut page = PageBuilder::new(&EventQuery { max_bytes: Some(10_000), ..query.clone() });
        let mut longest = 0;
        while let Some(step) = page.next_step() {
            let below: Vec<_> = stored.iter().filter(|e| e.seq < step.before).collect();
            let from = step.rows.and_then(|rows| below.get(rows as usize - 1)).map(|event| event.seq);
            let range: Vec<_> = below.into_iter().filter(|e| from.is_none_or(|from| e.seq >= from)).collect();
            longest = longest.max(range.len());
            for event in range.into_iter().filter(|e| matches(e)).take(step.limit as usize) {
                if !page.push(event.clone()) {
                    break;
                }
                assert!(page.bytes <= 10_000 || page.events.len() == 1, "{} bytes", page.bytes);
            }
            page.end_step(from, Duration::ZERO);
        }
        (page.build(), longest)
    }

    /// Reads all pages and returns the `seq` of their events.
    fn read_all(mut query: EventQuery, stored: &[StoredEvent], matches: impl Fn(&StoredEvent) -> bool) -> Vec<i64> {
        let mut seen = Vec::new();
        loop {
            let (page, _) = read(&query, stored, &matches);
            seen.extend(page.events.iter().map(|event| event.seq));
            query.before = page.next;
            if page.next.is_none() {
                return seen;
            }
        }
    }

    #[test]
    fn a_page_stops_at_its_bytes_also_when_large_events_follow_small_ones() {
        // Sixty-four tiny ones first: by their size, all the rest would fit.
        let stored: Vec<_> = (1..=500).rev().map(|seq| event(seq, if seq > 436 { 1 } else { 2_000 })).collect();
        assert!(read_all(query(1_000), &stored, |_| true).into_iter().eq((1..=500).rev()));
    }

    #[test]
    fn a_step_asks_for_at_most_twice_as_many_events_as_were_read() {
        let mut page = PageBuilder::new(&query(10_000));
        let mut seq = 100_000;
        while let Some(step) = page.next_step() {
            assert!(step.limit as usize <= FIRST_STEP_EVENTS.max(2 * page.events.len()), "{step:?}");
            for _ in 0..step.limit {
                seq -= 1;
                page.push(event(seq, 1));
            }
            page.end_step(None, Duration::ZERO);
        }
        assert_eq!(page.events.len(), 10_000);
    }

    #[test]
    fn an_event_that_is_larger_than_a_page_is_a_page_of_its_own() {
        let stored: Vec<_> = (1..=3).rev().map(|seq| event(seq, 20_000)).collect();
        let (page, _) = read(&query(100), &stored, |_| true);
        assert_eq!((page.events.len(), page.next), (1, Some(3)));
        assert_eq!(read_all(query(100), &stored, |_| true), [3, 2, 1]);
    }

    #[test]
    fn a_filter_without_an_index_is_read_in_bounded_steps_and_finds_everything() {
        let stored: Vec<_> = (1..=300_000).rev().map(|seq| event(seq, 1)).collect();
        let query = EventQuery { source: Some("rare".into()), ..query(3) };
        let (page, longest) = read(&query, &stored, |_| false);
        assert_eq!((page.events.len(), page.next), (0, None));
        assert!(longest <= MAX_ROWS as usize, "{longest}");
        let rare = |event: &StoredEvent| event.seq % 40_000 == 1;
        let expected: Vec<_> = (1..=300_000).rev().filter(|seq| seq % 40_000 == 1).collect();
        assert_eq!(read_all(query, &stored, rare), expected);
    }

    #[test]
    fn a_page_whose_time_is_over_goes_on_where_it_stopped() {
        let query = EventQuery { source: Some("rare".into()), before: Some(1_000_000), ..query(10) };
        let mut page = PageBuilder::new(&query);
        assert_eq!(page.next_step(), Some(Step { before: 1_000_000, limit: 11, rows: Some(MIN_ROWS) }));
        assert!(page.push(event(999_995, 1)));
        page.end_step(Some(990_000), Duration::from_millis(100));
        page.began -= FILTERED_PAGE_TIME;
        assert_eq!(page.next_step(), None);
        assert_eq!(page.build().next, Some(990_000));
    }
}
