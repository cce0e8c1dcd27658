//! What is asked of the feed, and what is answered.

use super::cursor::{Cursor, Generation, Start};
use crate::Patterns;
use crate::read::StoredEvent;

/// A query for the next events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedQuery {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only topics that match, if there is no `topic`: those that the subject of the request may read.
    pub patterns: Option<Patterns>,
    /// Only this source.
    pub source: Option<String>,
    /// Where the page begins.
    pub start: Start,
    /// The maximum number of events.
    pub limit: u32,
    /// The number of bytes at which the page ends. One event may be larger.
    pub max_bytes: usize,
}

/// A page of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    /// The events, in their order.
    pub events: Vec<StoredEvent>,
    /// The generation that their numbers belong to.
    pub generation: Generation,
    /// Where the next page begins.
    pub next: Cursor,
    /// Whether there are more events at this time, which may match.
    pub more: bool,
    /// Where the page begins, if the cursor was of another generation: events that were shown after this may come again.
    pub repeated_from: Option<Cursor>,
}

impl FeedQuery {
    /// Returns whether rows must be looked at that may not match, because a filter has no index.
    pub(crate) fn has_filter_without_index(&self) -> bool {
        self.source.is_some() || self.bounded_by().is_some()
    }

    /// Returns the patterns that each row is compared with.
    pub(crate) fn bounded_by(&self) -> Option<&Patterns> {
        self.patterns.as_ref().filter(|_| self.topic.is_none())
    }

    /// Returns whether an event that was read may be shown. All may that are not damaged: a damaged topic may be any other.
    pub(crate) fn allows(&self, event: &StoredEvent) -> bool {
        self.bounded_by().is_none_or(|patterns| patterns.allow(&event.topic))
    }
}
