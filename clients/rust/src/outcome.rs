//! What became of an event.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// What became of an event that the client took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server has it on disk, and stores it once.
    Delivered,
    /// The server refused it, and repeating it would not help. It is not stored, unless an earlier attempt was accepted,
    /// its answer was lost, and the repetition was refused for a reason that is not in the event.
    Rejected(Rejection),
    /// The client was closed before the server answered: the event may be stored or not.
    Unanswered,
    /// The client was closed before the server answered: the event is in the spool, and the next client that opens it
    /// sends it.
    Spooled,
}

/// Why the server refused an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The status of the answer: 202 if others of the batch were accepted.
    pub status: u16,
    /// The code of the problem, which never changes: `invalid_event`.
    pub code: String,
    /// The field that is wrong, if it is one.
    pub field: Option<String>,
    /// The reason, for people.
    pub detail: String,
}

/// The outcome of one event, when it is known. It need not be awaited: the event is sent all the same.
#[derive(Debug)]
pub struct Delivery {
    event_id: String,
    outcome: oneshot::Receiver<Outcome>,
    /// What it means that nobody tells the outcome any more.
    otherwise: Outcome,
}

impl Delivery {
    pub(crate) fn new(event_id: String, otherwise: Outcome) -> (oneshot::Sender<Outcome>, Self) {
        let (sender, outcome) = oneshot::channel();
        (sender, Self { event_id, outcome, otherwise })
    }

    /// Returns the id of the event, which was generated if it had none.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let polled = Pin::new(&mut self.outcome).poll(context);
        polled.map(|outcome| outcome.unwrap_or_else(|_| self.otherwise.clone()))
    }
}
