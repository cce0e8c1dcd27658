//! What people do with a store: look at dead letters, discard them, and audit the numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{ReceiptId, Timestamp};

use crate::erase::Erase;
use crate::feed::Feed;
use crate::ledger::LedgerKind;
use crate::outcomes::RequestOutcome;
use crate::schemas::SchemaStore;
use crate::series::{Minute, SeriesCounts, SeriesQuery};
use crate::{Counts, DeadLetter, Overdue, Patterns, Statistics, Store, StoreError, TopicPage, TopicSelection};

/// The code of a dead letter that is an entry which killed its reader. Its body is never returned by a list.
pub const KILLS_ITS_READER: &str = "kills_its_reader";

/// The name of the setting with the result of the last audit, which the audit writes and reads.
pub(crate) const LAST_AUDIT: &str = "last_audit";

/// The bodies in a page of dead letters have at most this many bytes together. A body that is larger than the rest of
/// it ends the page before it.
const PAGE_BYTES: i64 = 1 << 20;
/// A larger body is not returned at all.
pub(crate) const MAX_BODY_BYTES: i64 = 1 << 20;
/// The number of bytes of a reason that are returned.
pub(crate) const MAX_REASON_CHARS: i32 = 2_000;

/// A query for dead letters, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Only with this code.
    pub code: Option<String>,
    /// Only those that became dead letters at or after this time.
    pub since: Option<Timestamp>,
    /// Only those that became dead letters before this time.
    pub until: Option<Timestamp>,
    /// Only single events whose topics match; `None` also has whole entries, whose topics are not known.
    pub patterns: Option<Patterns>,
    /// Only with a smaller id: the end of the previous page.
    pub before: Option<i64>,
    /// The maximum number of dead letters.
    pub limit: u32,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// Newest first. The body is empty if it is large, or is an entry that could not be decoded or killed its reader.
    pub dead_letters: Vec<DeadLetter>,
    /// [`DeadLetterQuery::before`] of the next page; `None` if there are no more.
    pub next: Option<i64>,
}

impl DeadLetterQuery {
    /// Returns whether a dead letter has one of the topics, if there are patterns.
    pub(crate) fn allows(&self, topic: Option<&str>) -> bool {
        let matches = |patterns: &Patterns| topic.is_some_and(|topic| patterns.allow(topic));
        self.patterns.as_ref().is_none_or(matches)
    }
}

/// A dead letter to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterId {
    /// Its id.
    pub id: i64,
    /// Number of events in it.
    pub events: u64,
    /// Its code.
    pub code: String,
}

/// A page of dead letters to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterIds {
    /// Newest first.
    pub dead_letters: Vec<DeadLetterId>,
    /// [`DeadLetterQuery::before`] of the next page; `None` if there are no more.
    pub next: Option<i64>,
}

/// A row of a dead letter to replay: id, number of events, code and topic.
pub(crate) type IdRow = (i64, i64, String, Option<String>);

impl DeadLetterIds {
    /// Makes the page from rows, of which there is one more than the limit if there are more.
    pub(crate) fn new(mut rows: Vec<IdRow>, query: &DeadLetterQuery) -> Self {
        let more = rows.len() > query.limit as usize;
        rows.truncate(query.limit as usize);
        let next = rows.last().filter(|_| more).map(|(id, ..)| *id);
        rows.retain(|(.., topic)| query.allows(topic.as_deref()));
        let id = |(id, events, code, _): IdRow| DeadLetterId { id, events: events.cast_unsigned(), code };
        Self { dead_letters: rows.into_iter().map(id).collect(), next }
    }
}

impl DeadLetterPage {
    /// Makes the page from the dead letters that were read.
    pub(crate) fn new(mut dead_letters: Vec<DeadLetter>, next: Option<i64>, query: &DeadLetterQuery) -> Self {
        dead_letters.retain(|letter| query.allows(letter.content.event.as_ref().map(|(topic, _)| &**topic)));
        Self { dead_letters, next }
    }
}

/// The size of a dead letter in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub id: i64,
    pub bytes: i64,
}

/// Returns the largest and the smallest id of the page that consists of the first of these dead letters, and the end of
/// the page if there are more. `sizes` has one more than the limit if there are more.
pub(crate) fn page_range(sizes: &[Size], limit: u32) -> Option<(i64, i64, Option<i64>)> {
    let mut bytes = 0;
    let fits = sizes.iter().take(limit as usize).take_while(|size| {
        bytes += size.bytes;
        bytes <= PAGE_BYTES
    });
    // One at least, whatever its size.
    let count = fits.count().max(1);
    let (first, last) = (sizes.first()?.id, sizes.get(count - 1)?.id);
    Some((first, last, (count < sizes.len()).then_some(last)))
}

/// What a store says about its events, from one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreAudit {
    /// By topic. An empty topic has what is not known to belong to one.
    pub topics: BTreeMap<String, TopicAudit>,
    /// Number of rows of the audit trail.
    pub trail_rows: u64,
    /// The time from which on the ledger is complete; `None` if it always was.
    pub ledger_since: Option<Timestamp>,
}

/// What a store says about the events of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicAudit {
    /// The counters.
    pub counts: Counts,
    /// Number of rows of events.
    pub rows: u64,
    /// Number of events in dead letters.
    pub dead_lettered: u64,
    /// The ledger.
    pub ledger: BTreeMap<LedgerKind, u64>,
}

/// A row of the counters, summed up by topic: the topic, then received, unique, duplicates and conflicts.
pub(crate) type CountersRow = (String, i64, i64, i64, i64);

impl StoreAudit {
    /// Sets the counters of the topics.
    pub(crate) fn set_counters(&mut self, rows: Vec<CountersRow>) {
        let number = i64::cast_unsigned;
        for (topic, received, unique, duplicates, conflicts) in rows {
            self.topics.entry(topic).or_default().counts = Counts {
                received: number(received),
                unique: number(unique),
                duplicates: number(duplicates),
                conflicts: number(conflicts),
            };
        }
    }

    /// Adds a number of a kind: `rows`, `dead_lettered` or a kind of the ledger. An unknown kind, which a newer build
    /// may write, is left out.
    pub(crate) fn add(&mut self, topic: String, kind: &str, number: u64) {
        let of_topic = self.topics.entry(topic).or_default();
        match kind {
            "rows" => of_topic.rows = number,
            "dead_lettered" => of_topic.dead_lettered = number,
            _ => {
                if let Some(kind) = LedgerKind::of(kind) {
                    of_topic.ledger.insert(kind, number);
                }
            }
        }
    }
}

impl TopicAudit {
    /// Returns a number of the ledger.
    pub fn of(&self, kind: LedgerKind) -> u64 {
        self.ledger.get(&kind).copied().unwrap_or(0)
    }
}

/// A store as people look at it.
#[async_trait]
pub trait Inspect: Store + Feed + Erase + SchemaStore {
    /// Returns a page of dead letters, bounded in bytes.
    async fn dead_letter_page(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, StoreError>;

    /// Returns the ids of dead letters. Those that killed their reader are left out unless their code is asked for.
    async fn dead_letter_ids(&self, query: &DeadLetterQuery) -> Result<DeadLetterIds, StoreError>;

    /// Returns the topic of a dead letter that is a single event. A dead letter never changes, and its id is not used
    /// again. `None` if there is no such dead letter, or if it is a whole entry.
    async fn dead_letter_topic(&self, id: i64) -> Result<Option<String>, StoreError>;

    /// Deletes a dead letter, and counts its events as discarded in the same transaction. Returns their number; `None`
    /// if there is no such dead letter.
    async fn discard_dead_letter(&self, id: i64, shard: &str) -> Result<Option<u64>, StoreError>;

    /// Returns the outcomes that are known of the requests with these receipts.
    async fn outcomes(&self, receipts: &[ReceiptId]) -> Result<Vec<RequestOutcome>, StoreError>;

    /// Returns the topics that match, as [`crate::EventQuery`] takes them.
    async fn select_topics(&self, patterns: &Patterns) -> Result<TopicSelection, StoreError>;

    /// Returns the statistics of the topics that match, from one snapshot: totals and numbers are those of these
    /// topics, with the counts of at most `max_topics` of them. Dead letters that are whole entries are not counted.
    async fn statistics_of(&self, patterns: &Patterns, max_topics: u32) -> Result<Statistics, StoreError>;

    /// Returns what happened to events over time: the counts that are not zero, in the order of time, each with the first
    /// minute of its step.
    async fn series(&self, query: &SeriesQuery) -> Result<Vec<(Minute, SeriesCounts)>, StoreError>;

    /// Returns what the last audit noted with [`LAST_AUDIT`]; `None` if none did.
    async fn last_audit(&self) -> Result<Option<String>, StoreError>;

    /// Returns what maintenance should have done by now; `retention` is how long events are retained. Changes nothing.
    async fn overdue(&self, retention: Option<Duration>) -> Result<Overdue, StoreError>;

    /// Returns the counts of at most `limit` topics that match, beginning after the topic `after`.
    async fn topics_of(&self, patterns: &Patterns, after: Option<&str>, limit: u32) -> Result<TopicPage, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(sizes: &[i64], limit: u32) -> Option<(i64, i64, Option<i64>)> {
        let sizes: Vec<_> = sizes.iter().enumerate().map(|(n, &bytes)| Size { id: 100 - n as i64, bytes }).collect();
        page_range(&sizes, limit)
    }

    #[test]
    fn a_page_ends_at_its_limit_or_before_the_body_that_does_not_fit() {
        assert_eq!(range(&[], 2), None);
        assert_eq!(range(&[1, 1], 2), Some((100, 99, None)));
        assert_eq!(range(&[1, 1, 1], 2), Some((100, 99, Some(99))));
        assert_eq!(range(&[PAGE_BYTES - 1, 1, 1], 10), Some((100, 99, Some(99))));
        assert_eq!(range(&[PAGE_BYTES + 1], 10), Some((100, 100, None)));
        assert_eq!(range(&[PAGE_BYTES + 1, 1], 10), Some((100, 100, Some(100))));
    }
}
