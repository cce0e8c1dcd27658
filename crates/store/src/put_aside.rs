//! Whole entries that become dead letters.

use std::collections::HashSet;

use sluice_event::entry::Entry;
use sluice_event::{EntryId, ReceiptId};

use crate::NewDeadLetter;
use crate::ledger::position_receipt;
use crate::outcomes::RequestOutcome;

/// A whole entry to dead-letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAside {
    /// The dead letter.
    pub dead_letter: NewDeadLetter,
    /// The entry's id, if it can be read.
    pub entry: Option<EntryId>,
    /// The requests with a receipt in it; `None` if they cannot be read. Their receipts are stored together with the
    /// dead letter, so that a request that is sent again is recognised. One whose receipt was stored before does not
    /// belong to the dead letter.
    pub keyed: Option<Vec<KeyedRequest>>,
}

/// A request with a receipt in an entry that becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Its receipt.
    pub receipt: ReceiptId,
    /// Its number of events.
    pub events: u64,
    /// Whether its client waits for what becomes of it.
    pub waits: bool,
}

impl KeyedRequest {
    /// Returns those of an entry.
    pub fn all_of(entry: &Entry<'_>) -> Vec<Self> {
        let requests = entry.requests.iter();
        requests
            .filter_map(|r| Some(Self { receipt: r.receipt?, events: r.events.len() as u64, waits: r.waits }))
            .collect()
    }
}

impl PutAside {
    /// Returns the receipts that are inserted with it.
    pub(crate) fn receipts(&self) -> impl Iterator<Item = ReceiptId> {
        let of_position = position_receipt(self.entry, self.dead_letter.position);
        let keyed = self.keyed.iter().flatten().map(|request| request.receipt);
        self.entry.map(ReceiptId::from).into_iter().chain([of_position]).chain(keyed)
    }

    /// Decides by the receipts that are new what becomes a dead letter. They are removed from `fresh`. Returns the dead
    /// letter, if anything of the entry belongs to it, and the number of events that were appended once more although
    /// their receipts are stored. Adds the outcomes of requests whose clients wait.
    pub(crate) fn decide(
        &self,
        fresh: &mut HashSet<ReceiptId>,
        outcomes: &mut Vec<RequestOutcome>,
    ) -> (Option<NewDeadLetter>, u64) {
        let first_delivery = fresh.remove(&position_receipt(self.entry, self.dead_letter.position));
        if !self.entry.map_or(first_delivery, |id| fresh.remove(&id.into())) {
            return (None, if first_delivery { self.dead_letter.events } else { 0 });
        }
        let Some(keyed) = &self.keyed else { return (Some(self.dead_letter.clone()), 0) };
        let (own, skipped): (Vec<&KeyedRequest>, Vec<&KeyedRequest>) =
            keyed.iter().partition(|request| fresh.remove(&request.receipt));
        let skipped = skipped.iter().map(|request| request.events).sum::<u64>().min(self.dead_letter.events);
        let events = self.dead_letter.events - skipped;
        if events == 0 && skipped > 0 {
            return (None, skipped);
        }
        let waiting = own.iter().filter(|request| request.waits);
        outcomes.extend(
            waiting.map(|request| RequestOutcome {
                dead_lettered: request.events,
                ..RequestOutcome::none(request.receipt)
            }),
        );
        let receipts = Some(own.iter().map(|request| request.receipt).collect());
        (Some(NewDeadLetter { events, receipts, ..self.dead_letter.clone() }), skipped)
    }
}

/// Returns the bytes of receipts, one after another, as they are stored with a dead letter.
pub(crate) fn to_bytes(receipts: &[ReceiptId]) -> Vec<u8> {
    receipts.iter().flat_map(ReceiptId::as_bytes).copied().collect()
}

/// Reads what [`to_bytes`] wrote.
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<ReceiptId> {
    bytes.as_chunks().0.iter().map(|bytes| ReceiptId::from_bytes(*bytes)).collect()
}
