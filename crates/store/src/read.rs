//! What is read from a store: events in pages, statistics and topics.

use std::collections::BTreeMap;

use sluice_event::{RequestId, Timestamp};

use crate::topics::{Patterns, TopicSelection};

/// The counts of a topic. `received = unique + duplicates` holds in every committed state, although each is
/// counted separately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that arrived: each sending counts; a redelivery within the system does not.
    pub received: u64,
    /// Events stored.
    pub unique: u64,
    /// Events dropped because their key was stored already.
    pub duplicates: u64,
    /// Of the duplicates, those whose payload differs from the stored one.
    pub conflicts: u64,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number in the order of arrival.
    pub seq: i64,
    /// As sent, or `default`.
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
    /// Whether the row is damaged: a column cannot be read, or does not have the hash that was stored with it
    /// ([`crate::row_matches_its_hashes`]). The fields are then what could be read.
    pub damaged: bool,
    /// Whether payload and source were erased ([`crate::erase`]): there is no source, and the payload is `null`.
    pub erased: bool,
}

/// A query for events, newest arrival first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only these topics, if there is no `topic`: those that the subject of the request may read.
    pub topics: TopicSelection,
    /// Only this source.
    pub source: Option<String>,
    /// Only timestamps at or after this one.
    pub since: Option<Timestamp>,
    /// Only timestamps before this one.
    pub until: Option<Timestamp>,
    /// Only events with a smaller `seq`: the end of the previous page.
    pub before: Option<i64>,
    /// The maximum number of events. A page of large events may contain fewer although there is a next page.
    pub limit: u32,
    /// The number of bytes at which the page ends, if that is less than what every page may have
    /// ([`crate::page::PAGE_BYTES`]).
    pub max_bytes: Option<usize>,
}

/// A page of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, newest first.
    pub events: Vec<StoredEvent>,
    /// [`EventQuery::before`] of the next page; `None` if there are no more events.
    pub next: Option<i64>,
}

impl EventQuery {
    /// Returns whether rows must be looked at that may not match, because a filter has no index.
    pub fn has_filter_without_index(&self) -> bool {
        self.source.is_some() || self.since.is_some() || self.until.is_some()
    }

    /// Returns the topics whose events are merged.
    pub(crate) fn merged_topics(&self) -> Option<&[String]> {
        match &self.topics {
            TopicSelection::Listed(topics) if self.topic.is_none() => Some(topics),
            _ => None,
        }
    }

    /// Returns the patterns that each row is compared with.
    pub(crate) fn patterns(&self) -> Option<&Patterns> {
        match &self.topics {
            TopicSelection::Matching(patterns) if self.topic.is_none() => Some(patterns),
            _ => None,
        }
    }

    /// Returns whether a page ends when its time is over, although more events may match.
    pub fn ends_by_time(&self) -> bool {
        let bounded = self.topic.is_none() && self.topics != TopicSelection::All;
        self.has_filter_without_index() || bounded
    }

    /// Returns whether an event that was read has one of the topics. All have that are not damaged: a damaged topic may
    /// be any other, and then nobody knows whose the event is.
    pub(crate) fn allows(&self, event: &StoredEvent) -> bool {
        match (&self.topic, &self.topics) {
            (Some(_), _) | (None, TopicSelection::All) => true,
            (None, TopicSelection::Listed(topics)) => topics.binary_search(&event.topic).is_ok(),
            (None, TopicSelection::Matching(patterns)) => patterns.allow(&event.topic),
        }
    }
}

impl StoredEvent {
    /// Returns about how many bytes it takes in memory.
    pub fn size(&self) -> usize {
        let source = self.source.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.topic.len() + self.event_id.len() + source + self.payload.len()
    }
}

/// The statistics, from one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The sum of the counts of all topics.
    pub total: Counts,
    /// Number of topics.
    pub topic_count: u64,
    /// The counts of the topics with the most arrivals: as many topics as were asked for.
    pub topics: BTreeMap<String, Counts>,
    /// Number of events in dead letters at this time.
    pub dead_lettered: u64,
    /// All events that were stored since this time, by the store's clock, are there, so duplicates of them are
    /// recognised; `None` is unlimited.
    pub dedup_horizon: Option<Timestamp>,
}

/// A page of topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPage {
    /// The topics with their counts, in the database's order of their names.
    pub topics: Vec<(String, Counts)>,
    /// The topic after which the next page begins; `None` if there are no more topics.
    pub next: Option<String>,
}

impl TopicPage {
    /// Makes a page of at most `limit` topics from a list that has one more if there are more.
    pub(crate) fn new(mut topics: Vec<(String, Counts)>, limit: u32) -> Self {
        let more = topics.len() > limit as usize;
        topics.truncate(limit as usize);
        let next = topics.last().filter(|_| more).map(|(topic, _)| topic.clone());
        Self { topics, next }
    }
}
