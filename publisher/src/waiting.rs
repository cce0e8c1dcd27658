//! A request that waits for the log, and its outcome.

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admission::{Reservation, Slot};
use crate::pack::Packed;
use crate::pressure::Full;

/// A request between its validation and the response of the log.
pub(crate) struct Waiting {
    pub(crate) packed: Packed,
    /// The time at which its client is told that the log is unavailable.
    pub(crate) deadline: Instant,
    /// Closed when nobody waits for the outcome any more.
    pub(crate) reply: oneshot::Sender<Outcome>,
    /// Its place in the queue.
    pub(crate) slot: Slot,
    /// The bytes of its body. They stay reserved while the request is in the queue, also when its client has left:
    /// the packed request is about as large as the body was.
    pub(crate) reservation: Reservation,
}

impl Waiting {
    /// Frees the request's place in the queue and its bytes, and reports its outcome.
    pub(crate) fn finish(self, outcome: Outcome) {
        // The place must be free before the client can send its next request.
        drop(self.slot);
        drop(self.reservation);
        // Nobody receives the outcome when the client has left: there is nothing to undo then.
        let _ = self.reply.send(outcome);
    }
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The request is on disk.
    Stored,
    /// Its key was used with another body before. Nothing was written.
    KeyReused,
    /// The log has no room. Nothing was written.
    Full(Full),
    /// The log did not confirm it, for this reason: it may or may not be written.
    Failed(String),
}
