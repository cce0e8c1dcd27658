//! What the workers take their batches from: the log, read by one of them at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sluice_log::{Delivered, LogError, LogReader, Position};

/// How long one read waits for the first entry: how soon a stop is noticed at the latest.
const WAIT: Duration = Duration::from_secs(1);
/// Entries asked for in one read at max, which bounds the memory of one answer.
const MAX_ENTRIES: usize = 128;

/// Bytes in a batch, as they come from the log, beyond which it holds no more than new events would:
/// max are compressed, and all of a batch is expanded at once.
const LARGE_BATCH: usize = 2 << 20;

/// How large batches are.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// New events in a batch; a single larger entry is a batch of its own.
    pub events: u64,
    /// How long to wait for more when a read brought few events: fewer, fuller transactions.
    pub linger: Duration,
}

/// Entries for one transaction.
#[derive(Debug, Default)]
pub struct Taken {
    /// In stream order.
    pub entries: Vec<Delivered>,
    /// Whether they had been delivered before: left pending when this replica ended.
    pub redelivered: bool,
}

/// Reads the log in batches: what this replica left pending first, then what is new.
pub struct Intake {
    log: Arc<dyn LogReader>,
    limits: BatchLimits,
    own_pending: OwnPending,
    /// Read, and too much for the last batch.
    surplus: VecDeque<Delivered>,
    /// Entries to ask for next: follows how many events entries hold.
    ask: usize,
}

enum OwnPending {
    From(Option<Position>),
    Drained,
}

impl Intake {
    /// Begins with what is pending for this consumer's name.
    pub fn new(log: Arc<dyn LogReader>, limits: BatchLimits) -> Self {
        Self { log, limits, own_pending: OwnPending::From(None), surplus: VecDeque::new(), ask: 8 }
    }

    /// The next batch, of up to `most` events; empty when nothing came in time.
    pub async fn next(&mut self, max: u64) -> Result<Taken, LogError> {
        if let OwnPending::From(after) = self.own_pending {
            let entries = self.log.read_own_pending(after, MAX_ENTRIES).await?;
            match entries.last() {
                Some(last) => {
                    self.own_pending = OwnPending::From(Some(last.position));
                    return Ok(Taken { entries, redelivered: true });
                }
                None => self.own_pending = OwnPending::Drained,
            }
        }
        self.read_new(max).await.map(|entries| Taken { entries, redelivered: false })
    }

    /// What was read and not taken: entries that a stopping replica still has in hand.
    pub fn take_surplus(&mut self) -> Vec<Delivered> {
        self.surplus.drain(..).collect()
    }

    async fn read_new(&mut self, max: u64) -> Result<Vec<Delivered>, LogError> {
        let mut batch = Vec::new();
        let mut events = 0;
        let mut lingered = false;
        while self.fill(&mut batch, &mut events, max) {
            let wait = if batch.is_empty() { WAIT } else { Duration::ZERO };
            let read = self.log.read_new(self.ask, wait).await;
            let entries = match read {
                Ok(entries) => entries,
                // What is in hand must not be lost sight of: it goes first, the error comes again.
                Err(_) if !batch.is_empty() => break,
                Err(error) => return Err(error),
            };
            if entries.is_empty() {
                let few = events < self.limits.events * 2 / 5;
                if batch.is_empty() || lingered || !few || self.limits.linger.is_zero() {
                    break;
                }
                lingered = true;
                tokio::time::sleep(self.limits.linger).await;
            }
            self.adapt(&entries, max);
            self.surplus.extend(entries);
        }
        Ok(batch)
    }

    /// Moves surplus into the batch; answers whether there is room for more.
    fn fill(&mut self, batch: &mut Vec<Delivered>, events: &mut u64, max: u64) -> bool {
        let mut bytes: usize = batch.iter().map(|entry| entry.body.len()).sum();
        let max_events = |bytes| if bytes > LARGE_BATCH { max.min(self.limits.events) } else { max };
        while let Some(next) = self.surplus.front() {
            bytes += next.body.len();
            if !batch.is_empty() && *events + next.events > max_events(bytes) {
                return false;
            }
            *events += next.events;
            batch.extend(self.surplus.pop_front());
        }
        *events < max_events(bytes)
    }

    /// Asks for about as many entries as make a batch, judged by the largest just seen.
    fn adapt(&mut self, entries: &[Delivered], max: u64) {
        if let Some(largest) = entries.iter().map(|entry| entry.events.max(1)).max() {
            let fitting = usize::try_from(max / largest).unwrap_or(MAX_ENTRIES);
            self.ask = fitting.clamp(1, (self.ask * 2).min(MAX_ENTRIES));
        }
    }
}
