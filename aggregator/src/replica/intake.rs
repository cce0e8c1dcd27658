//! Reads the log in batches. The workers share one intake behind a lock, so that only one of them
//! reads at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sluice_log::{Delivered, LogError, LogReader, Position};

use crate::replica::batch_cut::{BatchCut, MaxEvents, take_batch};
use crate::replica::read_size::ReadSize;

/// How long one read waits for the first entry. A read is never cancelled, so this is also the longest
/// time until a replica notices that it must stop.
const WAIT: Duration = Duration::from_secs(1);
/// The largest number of entries requested in one read. Their sizes bound it further ([`ReadSize`]).
const MAX_ENTRIES: usize = 128;
/// The share of [`BatchLimits::events`], in percent, below which a batch waits for more events. A fuller
/// batch is committed at once: waiting would delay it and save few transactions.
const LINGER_BELOW_PERCENT: u64 = 40;

/// How large batches are.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// The largest number of new events in a batch. A single entry with more events is a batch of its own.
    pub events: u64,
    /// How long to wait for more events when a read returned few, so that transactions are fewer and
    /// fuller. Zero does not wait.
    pub linger: Duration,
}

/// Entries read for one transaction.
#[derive(Debug, Default)]
pub struct ReadBatch {
    /// The entries in stream order.
    pub entries: Vec<Delivered>,
    /// Whether they were delivered before, to this replica or to another, and were left pending.
    pub redelivered: bool,
}

/// Reads the log in batches: first the entries that this replica left pending, then new ones.
pub struct Intake {
    log: Arc<dyn LogReader>,
    limits: BatchLimits,
    own_pending: OwnPending,
    /// Pending entries that were read and did not fit into the last batch.
    recovered: VecDeque<Delivered>,
    /// New entries that were read and did not fit into the last batch.
    surplus: VecDeque<Delivered>,
    read_size: ReadSize,
}

/// The entries that this replica left pending when it ended.
enum OwnPending {
    /// Those behind this position have not been read yet; `None` is the beginning.
    After(Option<Position>),
    /// All of them were read.
    Drained,
}

impl Intake {
    /// Returns an intake that begins with the pending entries of this consumer's name.
    pub fn new(log: Arc<dyn LogReader>, limits: BatchLimits) -> Self {
        let (recovered, surplus, read_size) = (VecDeque::new(), VecDeque::new(), ReadSize::new(MAX_ENTRIES));
        Self { log, limits, own_pending: OwnPending::After(None), recovered, surplus, read_size }
    }

    /// Returns the next batch, of up to `max` events; it is empty when no entry came in time. Pending entries are
    /// batched like new ones, but in no more events than are stored when all are new.
    ///
    /// # Errors
    /// When the log cannot be read. Entries read before the error are not lost: they are returned first,
    /// and the error by a later call.
    pub async fn next(&mut self, max: u64) -> Result<ReadBatch, LogError> {
        self.read_own_pending().await?;
        let entries = take_batch(&mut self.recovered, self.limits.events);
        if !entries.is_empty() {
            return Ok(ReadBatch { entries, redelivered: true });
        }
        self.read_new(max).await.map(|entries| ReadBatch { entries, redelivered: false })
    }

    /// Returns the next batch of the entries that were read and are in no batch yet: a stopping replica must store
    /// them. `None` when there are no more.
    pub fn next_surplus(&mut self) -> Option<ReadBatch> {
        let redelivered = !self.recovered.is_empty();
        let queue = if redelivered { &mut self.recovered } else { &mut self.surplus };
        let entries = take_batch(queue, self.limits.events);
        (!entries.is_empty()).then_some(ReadBatch { entries, redelivered })
    }

    /// Reads entries that this replica left pending, unless some are waiting for a batch.
    async fn read_own_pending(&mut self) -> Result<(), LogError> {
        let OwnPending::After(after) = self.own_pending else { return Ok(()) };
        if !self.recovered.is_empty() {
            return Ok(());
        }
        let read = self.log.read_own_pending(after, self.read_size.entries()).await;
        self.read_size.learn(read.as_deref(), self.limits.events);
        let entries = read?;
        self.own_pending = match entries.last() {
            Some(last) => OwnPending::After(Some(last.position)),
            None => OwnPending::Drained,
        };
        self.recovered.extend(entries);
        Ok(())
    }

    async fn read_new(&mut self, max: u64) -> Result<Vec<Delivered>, LogError> {
        let max_events = MaxEvents { small: max, large: self.limits.events };
        let mut batch = BatchCut::default();
        let mut has_lingered = false;
        while batch.fill(&mut self.surplus, max_events) {
            let wait = if batch.entries.is_empty() { WAIT } else { Duration::ZERO };
            let read = self.log.read_new(self.read_size.entries(), wait).await;
            self.read_size.learn(read.as_deref(), max);
            let entries = match read {
                Ok(entries) => entries,
                // The entries read so far must be stored first. If the error persists, the next read
                // returns it.
                Err(_) if !batch.entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            if entries.is_empty() {
                let few = batch.events < self.limits.events * LINGER_BELOW_PERCENT / 100;
                if batch.entries.is_empty() || has_lingered || !few || self.limits.linger.is_zero() {
                    break;
                }
                has_lingered = true;
                tokio::time::sleep(self.limits.linger).await;
            }
            self.surplus.extend(entries);
        }
        Ok(batch.entries)
    }
}
