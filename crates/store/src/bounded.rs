//! What a subject that is bounded by topics gets: statistics that are made of its topics alone, and pages of events that
//! are merged from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sluice_event::Timestamp;

use crate::page::Step;
use crate::read::{Counts, EventQuery, Statistics};
use crate::topics::Patterns;

/// The maximum number of entries of the index that a step of a merged page looks at, beside the newest one of each topic:
/// as many of each topic as the step has events, and of no more topics than it has events.
const MAX_ENTRIES: usize = 1 << 16;
/// The number of events that a step can merge from any number of topics: the root of [`MAX_ENTRIES`].
const MIN_MERGED: usize = 1 << 8;

/// Returns how many events of so many topics a step merges. The filters are applied to these.
pub(crate) fn merged_rows(query: &EventQuery, step: &Step, topics: usize) -> u32 {
    let most = u32::try_from((MAX_ENTRIES / topics.max(1)).max(MIN_MERGED)).unwrap_or(u32::MAX);
    let wanted = if query.has_filter_without_index() { step.rows.unwrap_or(step.limit) } else { step.limit };
    wanted.min(most)
}

/// The numbers of the events that a step of a merged page looks at, newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    pub seqs: Vec<i64>,
    /// The last of them, if there may be more after it.
    pub from: Option<i64>,
}

impl Merged {
    /// Returns those of a step that looks at so many rows.
    pub fn new(seqs: Vec<i64>, rows: u32) -> Self {
        let from = seqs.last().copied().filter(|_| seqs.len() >= rows as usize);
        Self { seqs, from }
    }
}

/// Adds up statistics topic by topic. Of the topics, only as many are in memory as are returned.
pub(crate) struct StatisticsBuilder<'p> {
    patterns: &'p Patterns,
    max_topics: usize,
    /// By the number of arrivals; of equal ones the last by name is first.
    largest: BTreeMap<(u64, Reverse<String>), Counts>,
    statistics: Statistics,
}

impl<'p> StatisticsBuilder<'p> {
    pub fn new(patterns: &'p Patterns, max_topics: u32) -> Self {
        let (largest, statistics) = (BTreeMap::new(), Statistics::default());
        Self { patterns, max_topics: max_topics as usize, largest, statistics }
    }

    /// Adds the counts of a topic, if it matches.
    pub fn add_topic(&mut self, topic: String, counts: Counts) {
        if !self.patterns.allow(&topic) {
            return;
        }
        self.statistics.topic_count += 1;
        let total = &mut self.statistics.total;
        total.received += counts.received;
        total.unique += counts.unique;
        total.duplicates += counts.duplicates;
        total.conflicts += counts.conflicts;
        self.largest.insert((counts.received, Reverse(topic)), counts);
        if self.largest.len() > self.max_topics {
            self.largest.pop_first();
        }
    }

    /// Adds the number of events in dead letters of a topic, if it matches.
    pub fn add_dead_letters(&mut self, topic: &str, events: u64) {
        if self.patterns.allow(topic) {
            self.statistics.dead_lettered += events;
        }
    }

    /// Sets the time since when duplicates are recognised, which is one for all topics.
    pub fn set_dedup_horizon(&mut self, dedup_horizon: Option<Timestamp>) {
        self.statistics.dedup_horizon = dedup_horizon;
    }

    pub fn build(self) -> Statistics {
        let topics = self.largest.into_iter().map(|((_, Reverse(topic)), counts)| (topic, counts)).collect();
        Statistics { topics, ..self.statistics }
    }
}
