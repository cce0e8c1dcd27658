//! The notice: a document that the aggregators leave in the log for the publishers, which have no connection to the store. And
//! the tallies: what the publishers count for the aggregators.
//!
//! Both are small and bounded, and no promise depends on them: the aggregators write a notice that was lost again, and a tally
//! that was lost stays lost.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The largest document of a notice, in bytes.
pub const MAX_NOTICE_BYTES: usize = 4 << 20;

/// A document, and what identifies its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Differs if the document differs.
    pub tag: String,
    /// The document.
    pub document: Bytes,
}

impl Notice {
    /// Returns the notice of a document.
    pub fn new(document: impl Into<Bytes>) -> Self {
        let document = document.into();
        let tag = sluice_event::key::hash128(&document).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { tag, document }
    }
}

/// What a publisher reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeRead {
    /// No aggregator has left one, or the log has lost it.
    Absent,
    /// It is the one that is known already.
    Unchanged,
    /// It is another one.
    Changed(Notice),
}

/// Numbers by their names.
pub type Tallies = BTreeMap<String, u64>;

/// The notice and the tallies of a log that is a part of one process.
#[derive(Debug, Default)]
pub(crate) struct Board {
    notice: Option<Notice>,
    tallies: Tallies,
}

impl Board {
    /// Returns the notice, unless it is known.
    pub fn read(&self, known: Option<&str>) -> NoticeRead {
        match &self.notice {
            None => NoticeRead::Absent,
            Some(notice) if known == Some(&notice.tag) => NoticeRead::Unchanged,
            Some(notice) => NoticeRead::Changed(notice.clone()),
        }
    }

    /// Returns what identifies the notice.
    pub fn tag(&self) -> Option<String> {
        self.notice.as_ref().map(|notice| notice.tag.clone())
    }

    /// Replaces the notice if it is this one. Returns whether it was.
    pub fn replace(&mut self, notice: &Notice, before: Option<&str>) -> bool {
        let is_it = self.notice.as_ref().map(|notice| &*notice.tag) == before;
        if is_it {
            self.notice = Some(notice.clone());
        }
        is_it
    }

    /// Adds to tallies.
    pub fn add(&mut self, tallies: &Tallies) {
        for (name, number) in tallies {
            let tally = self.tallies.entry(name.clone()).or_default();
            *tally = tally.saturating_add(*number);
        }
    }

    /// Returns all tallies.
    pub fn tallies(&self) -> Tallies {
        self.tallies.clone()
    }

    /// Removes tallies.
    pub fn forget(&mut self, names: &[String]) {
        for name in names {
            self.tallies.remove(name);
        }
    }
}
