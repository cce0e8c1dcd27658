//! What the clients did and what they were told, and the comparison with what is stored.

use std::collections::HashSet;

use rand::RngExt;
use rand::rngs::StdRng;
use sluice_tests::store::StoredRow;
use sluice_tests::{Snapshot, load};

/// The most keyed requests of earlier rounds that are remembered, to be repeated.
const MAX_REMEMBERED: usize = 1_000;
/// The most differences that a report contains.
const MAX_REPORTED: usize = 20;
/// The most events of a request beside its own.
const MAX_OTHERS: usize = 20;

/// Returns event number `n`: its topic, its id, and its payload as JSON text. The ids sort like the numbers. Two
/// events have the same id, in different topics.
pub fn event(n: u64) -> (String, String, String) {
    let (_, _, payload) = load::event(n);
    (format!("soak-{}", n % 7), format!("evt-{:010}", n / 2), payload)
}

/// Returns the number of a stored event; `None` if it is no event, or has another payload.
fn number_of(row: &StoredRow) -> Option<u64> {
    let half: u64 = row.1.strip_prefix("evt-")?.parse().ok()?;
    (half * 2..half * 2 + 2).find(|n| event(*n) == *row)
}

/// What a client knows after an attempt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 202.
    Accepted,
    /// Nothing was written.
    Refused,
    /// No answer, or one that does not tell.
    Unknown,
}

/// A request with the answers to all attempts.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// The numbers of its events. No other request contains the first one before the round is over, so the row of
    /// that event tells whether the request was accepted.
    pub events: Vec<u64>,
    /// The numbers of attempts that were accepted, refused, and neither.
    answers: [u64; 3],
}

impl Request {
    fn attempts(&self, answer: Answer) -> u64 {
        self.answers[answer as usize]
    }

    fn describe(&self) -> String {
        let [accepted, refused, unknown] = self.answers;
        let key = self.key.as_deref().map_or("no key".to_owned(), |key| format!("key {key}"));
        format!(
            "the request of {} events from {:?} with {key} ({accepted} × 202, {refused} × refused, {unknown} × unknown)",
            self.events.len(),
            event(self.events[0]).1,
        )
    }
}

/// The numbers of a soak, for its report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Requests, each counted once however often it was repeated.
    pub requests: u64,
    /// Attempts that were answered 202.
    pub accepted: u64,
    /// Attempts by which nothing was written.
    pub refused: u64,
    /// Attempts of unknown outcome.
    pub unknown: u64,
    /// Requests that were never answered 202, and are stored.
    pub stored_unanswered: u64,
}

/// All requests of the present round, and what is stored since earlier ones.
#[derive(Debug, Default)]
pub struct History {
    next: u64,
    /// The first event of the round.
    first: u64,
    requests: Vec<Request>,
    /// The events of the round that any request may contain.
    shared: Vec<u64>,
    stored: HashSet<u64>,
    received: i64,
    /// Keyed requests of earlier rounds that were accepted.
    remembered: Vec<Request>,
    /// Answers that are wrong whatever has happened.
    wrong: Vec<String>,
    totals: Totals,
}

impl History {
    /// Adds a request of random events, new ones and some that were or are sent by others. Returns its number.
    pub fn add(&mut self, random: &mut StdRng, key: Option<String>) -> usize {
        let mut events = vec![self.new_event()];
        for _ in 0..random.random_range(0..=MAX_OTHERS) {
            let other = match random.random_range(0..100) {
                0..=14 => self.recent(random),
                15..=24 => self.earlier(random),
                25..=29 => Some(events[random.random_range(0..events.len())]),
                _ => None,
            };
            events.push(other.unwrap_or_else(|| {
                let new = self.new_event();
                self.shared.push(new);
                new
            }));
        }
        self.requests.push(Request { key, events, answers: [0; 3] });
        self.requests.len() - 1
    }

    fn new_event(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Returns an event that this or another client has sent in this round, or is sending.
    fn recent(&self, random: &mut StdRng) -> Option<u64> {
        let near = self.shared.len().min(100);
        (near > 0).then(|| self.shared[self.shared.len() - near + random.random_range(0..near)])
    }

    /// Returns an event that is stored since an earlier round.
    fn earlier(&self, random: &mut StdRng) -> Option<u64> {
        let n = (self.first > 0).then(|| random.random_range(0..self.first))?;
        self.stored.contains(&n).then_some(n)
    }

    /// Returns the request of this number.
    pub fn request(&self, number: usize) -> &Request {
        &self.requests[number]
    }

    /// Returns a keyed request of an earlier round that was accepted.
    pub fn remembered(&self, random: &mut StdRng) -> Option<Request> {
        let count = self.remembered.len();
        (count > 0).then(|| self.remembered[random.random_range(0..count)].clone())
    }

    /// Records the answer to an attempt.
    pub fn answered(&mut self, number: usize, answer: Answer) {
        self.requests[number].answers[answer as usize] += 1;
    }

    /// Records an answer that is wrong whatever has happened.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Returns the id from which on all events of the round follow.
    pub fn first_id(&self) -> String {
        event(self.first).1
    }

    /// Returns the numbers of all rounds that were compared.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the events that are stored.
    pub fn stored(&self) -> &HashSet<u64> {
        &self.stored
    }

    /// Returns the least number of events that must have arrived.
    pub fn least_received(&self) -> u64 {
        let accepted = self.requests.iter().filter(|request| request.attempts(Answer::Accepted) > 0);
        self.received.cast_unsigned() + accepted.map(|request| request.events.len() as u64).sum::<u64>()
    }

    /// Compares the round with the rows of its events and the counts, and begins the next one. Returns the
    /// differences, which are empty if every promise was kept.
    pub fn compare(&mut self, rows: &[StoredRow], end: &Snapshot) -> Vec<String> {
        let mut differences = std::mem::take(&mut self.wrong);
        for row in rows {
            match number_of(row) {
                None => differences.push(format!("a row that nobody sent: {row:?}")),
                Some(n) if !self.stored.insert(n) => differences.push(format!("event {n} is stored twice: {row:?}")),
                Some(_) => {}
            }
        }
        differences.extend(end.fault());
        if (end.dead_lettered, end.conflicts) != (0, 0) {
            differences.push(format!("there must be no dead letters and no conflicts: {end:?}"));
        }
        if end.rows != self.stored.len() as i64 {
            differences.push(format!("{} distinct events are stored: {end:?}", self.stored.len()));
        }
        self.compare_requests(end, &mut differences);
        self.begin_next(end);
        let count = differences.len();
        differences.truncate(MAX_REPORTED);
        if count > MAX_REPORTED {
            differences.push(format!("… and {} more", count - MAX_REPORTED));
        }
        differences
    }

    /// Compares each request with the rows, and all of them with the number of received events.
    fn compare_requests(&self, end: &Snapshot, differences: &mut Vec<String>) {
        let (mut least, mut most) = (self.received, self.received);
        let mut sent = HashSet::new();
        for request in &self.requests {
            let is_stored = self.stored.contains(&request.events[0]);
            let [accepted, unknown] = [Answer::Accepted, Answer::Unknown].map(|answer| request.attempts(answer));
            if !is_stored {
                if accepted > 0 {
                    differences.push(format!("lost: {}", request.describe()));
                }
                continue;
            }
            if accepted + unknown == 0 {
                differences.push(format!("stored though it was refused: {}", request.describe()));
            }
            let missing = request.events.iter().filter(|n| !self.stored.contains(n)).count();
            if missing > 0 {
                differences.push(format!("stored in part, {missing} events are missing: {}", request.describe()));
            }
            sent.extend(request.events.iter().copied());
            // An attempt with a key counts once. Without one, each attempt that was accepted counts; of those of
            // unknown outcome at least one, if no other explains the row.
            let (low, high) = if request.key.is_some() { (1, 1) } else { (accepted.max(1), accepted + unknown) };
            let events = request.events.len() as i64;
            least += low.cast_signed() * events;
            most += high.max(low).cast_signed() * events;
        }
        let unsent: Vec<_> = (self.first..self.next).filter(|n| self.stored.contains(n) && !sent.contains(n)).collect();
        if !unsent.is_empty() {
            differences.push(format!("{} events of requests that are not stored are stored: {unsent:?}", unsent.len()));
        }
        if !(least..=most).contains(&end.received) {
            let bounds = if least == most { least.to_string() } else { format!("{least} to {most}") };
            differences.push(format!("the requests explain {bounds} received events: {end:?}"));
        }
    }

    fn begin_next(&mut self, end: &Snapshot) {
        for request in std::mem::take(&mut self.requests) {
            let [accepted, refused, unknown] = request.answers;
            self.totals.requests += 1;
            self.totals.accepted += accepted;
            self.totals.refused += refused;
            self.totals.unknown += unknown;
            let is_stored = self.stored.contains(&request.events[0]);
            self.totals.stored_unanswered += u64::from(accepted == 0 && is_stored);
            if accepted > 0 && request.key.is_some() && self.remembered.len() < MAX_REMEMBERED {
                self.remembered.push(request);
            }
        }
        // The number is even, because events 2 n and 2 n + 1 have the same id.
        self.next = self.next.next_multiple_of(2);
        self.first = self.next;
        self.shared.clear();
        self.received = end.received;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Adds a request with these answers.
    fn add(history: &mut History, key: Option<&str>, answers: &[Answer]) -> Vec<u64> {
        let number = history.add(&mut StdRng::seed_from_u64(history.next), key.map(str::to_owned));
        answers.iter().for_each(|answer| history.answered(number, *answer));
        history.request(number).events.clone()
    }

    /// Compares the history with the rows of these events, of which so many were received.
    fn compare(history: &mut History, stored: &[&[u64]], received: usize) -> String {
        let distinct: HashSet<u64> = stored.concat().into_iter().collect();
        let rows: Vec<_> = distinct.into_iter().map(event).collect();
        compare_rows(history, &rows, received)
    }

    fn compare_rows(history: &mut History, rows: &[StoredRow], received: usize) -> String {
        let (received, unique) = (received as i64, rows.len() as i64);
        let duplicates = received - unique;
        let end = Snapshot { received, unique, duplicates, rows: unique, ..Snapshot::default() };
        history.compare(rows, &end).join("\n")
    }

    #[test]
    fn what_was_accepted_or_is_unknown_may_be_stored_and_counts_once_for_each_key() {
        let mut history = History::default();
        let keyed = add(&mut history, Some("a"), &[Answer::Unknown, Answer::Accepted, Answer::Accepted]);
        let unkeyed = add(&mut history, None, &[Answer::Accepted]);
        let unknown = add(&mut history, Some("b"), &[Answer::Unknown, Answer::Unknown]);
        add(&mut history, None, &[Answer::Unknown]);
        add(&mut history, Some("c"), &[Answer::Refused]);
        let received = keyed.len() + unkeyed.len() + unknown.len();
        assert_eq!(compare(&mut history, &[&keyed, &unkeyed, &unknown], received), "");
    }

    #[test]
    fn a_repetition_without_a_key_counts_between_once_and_each_time() {
        for (times, is_explained) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
            let mut history = History::default();
            let events = add(&mut history, None, &[Answer::Unknown, Answer::Unknown, Answer::Accepted]);
            let difference = compare(&mut history, &[&events], times * events.len());
            assert_eq!(difference.is_empty(), is_explained, "{times} times: {difference}");
        }
    }

    #[test]
    fn every_difference_is_reported() {
        let accepted = |history: &mut History| add(history, Some("a"), &[Answer::Accepted]);

        let mut history = History::default();
        accepted(&mut history);
        assert!(compare(&mut history, &[], 0).contains("lost: the request"));

        let mut history = History::default();
        let events = accepted(&mut history);
        assert!(compare(&mut history, &[&events], 2 * events.len()).contains("the requests explain"));

        let mut history = History::default();
        let events = accepted(&mut history);
        assert!(compare(&mut history, &[&events[..1]], events.len()).contains("stored in part"));

        let mut history = History::default();
        let refused = add(&mut history, None, &[Answer::Refused]);
        assert!(compare(&mut history, &[&refused], refused.len()).contains("stored though it was refused"));

        let mut history = History::default();
        let unknown = add(&mut history, None, &[Answer::Unknown]);
        let others: Vec<_> = unknown.iter().copied().filter(|n| *n != unknown[0]).collect();
        assert!(compare(&mut history, &[&others], 0).contains("of requests that are not stored"));

        let mut history = History::default();
        let events = accepted(&mut history);
        let rows = [event(events[0]), event(events[0])];
        assert!(compare_rows(&mut history, &rows, events.len()).contains("stored twice"));

        let mut history = History::default();
        let (topic, id, _) = event(accepted(&mut history)[0]);
        assert!(compare_rows(&mut history, &[(topic, id, "{}".to_owned())], 1).contains("nobody sent"));
    }

    #[test]
    fn an_event_that_is_stored_again_in_a_later_round_is_reported() {
        let mut history = History::default();
        let first = add(&mut history, Some("a"), &[Answer::Accepted]);
        assert_eq!(compare(&mut history, &[&first], first.len()), "");
        let distinct: HashSet<_> = first.iter().collect();
        let end = |rows: i64| Snapshot {
            received: first.len() as i64,
            unique: rows,
            duplicates: first.len() as i64 - rows,
            rows,
            ..Snapshot::default()
        };
        assert!(history.compare(&[], &end(distinct.len() as i64)).is_empty());
        let again = history.compare(&[], &end(distinct.len() as i64 + 1)).join("\n");
        assert!(again.contains("distinct events are stored"), "{again}");
    }
}
