//! Removes what an event contains, on demand of the person that it is about. Its key stays, so that it stays a duplicate.

use async_trait::async_trait;
use sluice_event::compressed;
use sluice_event::entry::{self, PackedRequest};

use crate::conflicts::{ConflictPage, ConflictQuery};
use crate::ledger::{LedgerKind, LedgerRow};
use crate::{Store, StoreError};

/// The number of events with one topic and id of which meters forget the latest value: they differ in their source.
pub(crate) const MAX_ALIKE: u32 = 64;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Whether there is a stored event, or there was anything else to erase. If not, nothing was changed.
    pub found: bool,
    /// Number of stored events of which payload and source were removed.
    pub events: u64,
    /// Number of events that were removed from dead letters.
    pub dead_letters: u64,
    /// Number of conflicts that were removed.
    pub conflicts: u64,
}

/// A store that erases events.
#[async_trait]
pub trait Erase: Store {
    /// Returns a page of conflicts.
    async fn conflicts(&self, query: &ConflictQuery) -> Result<ConflictPage, StoreError>;

    /// Removes the payload and the source of all events with this topic and id, and removes them from dead letters and
    /// conflicts, in one transaction. `shard` is that of the ledger, in which events in dead letters are counted as discarded.
    async fn erase(&self, topic: &str, event_id: &str, shard: &str) -> Result<Erased, StoreError>;
}

/// Returns the rows of the ledger for events that were removed from dead letters: those that were dead letters of their own, and
/// those in entries, which are counted without a topic.
pub(crate) fn discarded(topic: &str, (single, of_entries): (u64, u64)) -> Vec<LedgerRow<'_>> {
    let rows = [("", of_entries), (topic, single)].into_iter().filter(|(_, events)| *events > 0);
    rows.map(|(topic, events)| LedgerRow { topic, kind: LedgerKind::Discarded, events }).collect()
}

/// The body of a dead letter without some events.
pub(crate) struct Rewritten {
    pub body: Vec<u8>,
    /// Number of events that are left.
    pub left: u64,
    /// Number of events that were removed.
    pub removed: u64,
}

/// Removes the events with this topic and id from the body of a dead letter. `None` if there are none, or if it cannot be
/// decoded.
pub(crate) fn rewrite(body: &[u8], topic: &str, event_id: &str) -> Option<Rewritten> {
    let expanded = compressed::expand(body).ok()?;
    let decoded = entry::decode(&expanded).ok()?;
    let (mut left, mut removed) = (0, 0);
    let requests: Vec<_> = decoded
        .requests
        .iter()
        .map(|request| {
            let (gone, kept): (Vec<_>, Vec<_>) =
                request.events.iter().cloned().partition(|event| event.topic == topic && event.event_id == event_id);
            left += kept.len() as u64;
            removed += gone.len() as u64;
            PackedRequest::new(request.id, request.receipt, request.accepted_at, &kept)
        })
        .collect();
    let body = (removed > 0).then(|| compressed::pack_uncompressed(decoded.id, requests.iter()).body)?;
    Some(Rewritten { body, left, removed })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sluice_event::{EntryId, Event, PayloadHash, ReceiptId, RequestId, Timestamp};

    use super::*;

    fn event(topic: &'static str, id: &'static str) -> Event<'static> {
        Event {
            topic: Cow::Borrowed(topic),
            event_id: Cow::Borrowed(id),
            timestamp: Timestamp::UNIX_EPOCH,
            source: None,
            payload: Cow::Borrowed("1"),
            payload_hash: PayloadHash::from_u128(1),
        }
    }

    #[test]
    fn an_event_is_removed_from_all_requests_of_an_entry_and_the_rest_stays() {
        let request = |n, receipt, events: &[Event<'_>]| {
            PackedRequest::new(RequestId::from_u128(n), receipt, Timestamp::UNIX_EPOCH, events)
        };
        let receipt = Some(ReceiptId::from_u128(7));
        let requests = [
            request(1, receipt, &[event("t", "1"), event("t", "2"), event("u", "1")]),
            request(2, None, &[event("t", "1")]),
        ];
        let body = compressed::pack_uncompressed(EntryId::from_u128(9), requests.iter()).body;
        let rewritten = rewrite(&body, "t", "1").unwrap();
        assert_eq!((rewritten.left, rewritten.removed), (2, 2));
        let expanded = compressed::expand(&rewritten.body).unwrap();
        let decoded = entry::decode(&expanded).unwrap();
        assert_eq!((decoded.id, decoded.requests[0].receipt), (EntryId::from_u128(9), receipt));
        let events: Vec<_> = decoded.requests.iter().map(|request| request.events.clone()).collect();
        assert_eq!(events, [vec![event("t", "2"), event("u", "1")], vec![]]);
        assert!(rewrite(&body, "t", "3").is_none());
        assert!(rewrite(b"nonsense", "t", "1").is_none());
    }
}
