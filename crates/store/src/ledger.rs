//! The ledger: what happened to events and is neither in the counters nor in the rows. Together with them it accounts
//! for every event that was appended to the log, which the audit checks.

use std::collections::BTreeMap;

use sluice_event::entry::Request;
use sluice_event::{EntryId, ReceiptId};
use sluice_log::Position;

/// What happened to events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerKind {
    /// They were in an entry or a request whose receipt was stored already. A second delivery of an entry that was
    /// committed is not counted, because it was appended once.
    Skipped,
    /// They were in a dead letter that somebody discarded.
    Discarded,
    /// Their rows were removed by the retention.
    Removed,
    /// They were dropped as duplicates, and have a row in the audit trail.
    Audited,
    /// Their rows in the audit trail were removed by the retention.
    AuditRemoved,
}

impl LedgerKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Skipped, Self::Discarded, Self::Removed, Self::Audited, Self::AuditRemoved];

    /// Returns its text in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Discarded => "discarded",
            Self::Removed => "removed",
            Self::Audited => "audited",
            Self::AuditRemoved => "audit_removed",
        }
    }

    /// Returns the kind with this text.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A number of events to add to the ledger. The topic is empty where it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow<'a> {
    /// The topic of the events.
    pub topic: &'a str,
    /// What happened to them.
    pub kind: LedgerKind,
    /// Their number.
    pub events: u64,
}

/// The events of a batch that were skipped by receipts, by topic.
#[derive(Debug, Default)]
pub(crate) struct Skipped<'a>(BTreeMap<&'a str, u64>);

impl<'a> Skipped<'a> {
    /// Counts the events of skipped requests.
    pub fn add_requests(&mut self, requests: &'a [Request<'a>]) {
        for event in requests.iter().flat_map(|request| &request.events) {
            *self.0.entry(&*event.topic).or_default() += 1;
        }
    }

    /// Counts events whose topics are not known.
    pub fn add_unknown(&mut self, events: u64) {
        if events > 0 {
            *self.0.entry("").or_default() += events;
        }
    }

    /// Returns the rows of the ledger, in the order of the topics.
    pub fn rows(&self) -> impl Iterator<Item = LedgerRow<'a>> {
        self.0.iter().map(|(&topic, &events)| LedgerRow { topic, kind: LedgerKind::Skipped, events })
    }
}

/// Returns the receipt of an entry at a position. It is stored beside the receipt of the entry, and tells a second
/// delivery of one append from a second append: only the second one was counted by the log.
pub(crate) fn position_receipt(entry: Option<EntryId>, position: Position) -> ReceiptId {
    /// Makes this receipt differ from that of the entry itself.
    const MARK: u128 = 0x5a5a_5a5a_5a5a_5a5a_5a5a_5a5a_5a5a_5a5a;
    let place = (u128::from(position.stream) << 112)
        | (u128::from(position.millis & 0xffff_ffff_ffff) << 64)
        | u128::from(position.sequence);
    ReceiptId::from_u128(entry.map_or(0, |id| id.as_u128()) ^ place ^ MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_of_an_entry_has_a_receipt_of_its_own() {
        let entry = EntryId::random();
        let at = |stream, millis, sequence| position_receipt(Some(entry), Position { stream, millis, sequence });
        let all = [at(0, 0, 0), at(1, 0, 0), at(0, 1, 0), at(0, 0, 1), ReceiptId::from(entry)];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| one != other), "{all:?}");
        }
    }

    #[test]
    fn each_kind_is_read_back() {
        for kind in LedgerKind::ALL {
            assert_eq!(LedgerKind::of(kind.as_str()), Some(kind));
        }
    }
}
