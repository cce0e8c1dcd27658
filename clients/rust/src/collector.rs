//! Collects events into batches, by number, by bytes and by time.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::SendError;
use crate::outcome::Outcome;

/// What the collector is asked for.
#[derive(Debug)]
pub(crate) enum Order {
    Event(Waiting),
    /// To wait no longer for more events.
    Flush,
}

/// An event that waits to become a part of a batch.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) line: Vec<u8>,
    pub(crate) arrived: Instant,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    /// Tells whether it is in the spool, if there is one.
    pub(crate) written: Option<oneshot::Sender<Result<(), SendError>>>,
    /// Its share of the memory.
    pub(crate) memory: OwnedSemaphorePermit,
}

/// The events of one batch.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) body: Vec<u8>,
    pub(crate) outcomes: Vec<oneshot::Sender<Outcome>>,
    pub(crate) written: Vec<oneshot::Sender<Result<(), SendError>>>,
    pub(crate) memory: OwnedSemaphorePermit,
}

/// Where batches go.
pub(crate) trait Sink {
    /// Takes a batch, and returns when it can take another one, or soon if the client stops.
    fn put(&mut self, group: Group) -> impl Future<Output = ()> + Send;
}

/// Takes the orders of all senders.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) orders: UnboundedReceiver<Order>,
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
    /// An event that did not fit into the batch before.
    pub(crate) over: Option<Waiting>,
}

impl Collector {
    /// Collects until there are no senders any more, or the client stops.
    pub(crate) async fn run(mut self, mut sink: impl Sink, stop: CancellationToken) {
        // What a sink does is not cut off: a batch that is being written to the spool is written.
        while let Some(Some(group)) = stop.run_until_cancelled(self.next()).await {
            sink.put(group).await;
        }
    }

    async fn next(&mut self) -> Option<Group> {
        let first = match self.over.take() {
            Some(waiting) => waiting,
            None => loop {
                match self.orders.recv().await? {
                    Order::Event(waiting) => break waiting,
                    Order::Flush => {}
                }
            },
        };
        let deadline = first.arrived + self.linger;
        let mut group = Group::of(first);
        while group.outcomes.len() < self.events {
            // What is there already is taken even if the first event has waited long enough.
            let order = match self.orders.try_recv() {
                Err(TryRecvError::Empty) => timeout_at(deadline, self.orders.recv()).await.ok().flatten(),
                order => order.ok(),
            };
            let Some(Order::Event(waiting)) = order else { break };
            if group.body.len() + waiting.line.len() > self.bytes {
                self.over = Some(waiting);
                break;
            }
            group.push(waiting);
        }
        Some(group)
    }
}

impl Group {
    fn of(first: Waiting) -> Self {
        let Waiting { line, outcome, written, memory, .. } = first;
        Self { body: line, outcomes: vec![outcome], written: written.into_iter().collect(), memory }
    }

    fn push(&mut self, waiting: Waiting) {
        let Waiting { line, outcome, written, memory, .. } = waiting;
        self.body.extend_from_slice(&line);
        self.outcomes.push(outcome);
        self.written.extend(written);
        self.memory.merge(memory);
    }
}
