//! What became of a request whose client waits until it is stored. It is written in the transaction that stores the request, so
//! whoever asks for it gets the same answer, however often.

use sluice_event::ReceiptId;

/// What became of the events of a request. The numbers add up to its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOutcome {
    /// The receipt of the request.
    pub receipt: ReceiptId,
    /// Number of events that were stored.
    pub stored: u64,
    /// Number of events that were dropped because they are stored already.
    pub duplicates: u64,
    /// Of the duplicates, those whose payload differs from the stored one.
    pub conflicts: u64,
    /// Number of events that became dead letters.
    pub dead_lettered: u64,
}

impl RequestOutcome {
    /// Returns the outcome of a request without events.
    pub fn none(receipt: ReceiptId) -> Self {
        Self { receipt, stored: 0, duplicates: 0, conflicts: 0, dead_lettered: 0 }
    }
}
