//! Reads the log in batches. The workers share one intake behind a lock, so that only one of them
//! reads at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sluice_log::{Delivered, LogError, LogReader, Position};

/// How long one read waits for the first entry. A read is never cancelled, so this is also the longest
/// time until a replica notices that it must stop.
const WAIT: Duration = Duration::from_secs(1);
/// The largest number of entries requested in one read. It bounds the memory that the log's answer takes.
const MAX_ENTRIES: usize = 128;
/// The number of entries requested in the first read, when nothing is known yet about how many events an
/// entry holds. Small, because entries may be large; it doubles with each read where entries are small.
const FIRST_ENTRIES: usize = 8;
/// Bytes of a batch, as the log delivers them, above which it holds no more events than a batch of new
/// events may hold ([`BatchLimits::events`]). Most entries are compressed and the whole batch is expanded
/// at once: this bounds the memory for it.
const LARGE_BATCH: usize = 2 << 20;
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
    /// Entries that were read and did not fit into the last batch.
    surplus: VecDeque<Delivered>,
    /// The number of entries to request in the next read.
    request_entries: usize,
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
        let own_pending = OwnPending::After(None);
        Self { log, limits, own_pending, surplus: VecDeque::new(), request_entries: FIRST_ENTRIES }
    }

    /// Returns the next batch, of up to `max` events; it is empty when no entry came in time.
    ///
    /// # Errors
    /// When the log cannot be read. Entries read before the error are not lost: they are returned first,
    /// and the error by a later call.
    pub async fn next(&mut self, max: u64) -> Result<ReadBatch, LogError> {
        if let OwnPending::After(after) = self.own_pending {
            let entries = self.log.read_own_pending(after, MAX_ENTRIES).await?;
            match entries.last() {
                Some(last) => {
                    self.own_pending = OwnPending::After(Some(last.position));
                    return Ok(ReadBatch { entries, redelivered: true });
                }
                None => self.own_pending = OwnPending::Drained,
            }
        }
        self.read_new(max).await.map(|entries| ReadBatch { entries, redelivered: false })
    }

    /// Returns the entries that were read and are in no batch yet: a stopping replica must store them.
    pub fn take_surplus(&mut self) -> Vec<Delivered> {
        self.surplus.drain(..).collect()
    }

    async fn read_new(&mut self, max: u64) -> Result<Vec<Delivered>, LogError> {
        let mut batch = Vec::new();
        let mut events = 0;
        let mut has_lingered = false;
        while self.fill(&mut batch, &mut events, max) {
            let wait = if batch.is_empty() { WAIT } else { Duration::ZERO };
            let read = self.log.read_new(self.request_entries, wait).await;
            let entries = match read {
                Ok(entries) => entries,
                // The entries read so far must be stored first. If the error persists, the next read
                // returns it.
                Err(_) if !batch.is_empty() => break,
                Err(error) => return Err(error),
            };
            if entries.is_empty() {
                let few = events < self.limits.events * LINGER_BELOW_PERCENT / 100;
                if batch.is_empty() || has_lingered || !few || self.limits.linger.is_zero() {
                    break;
                }
                has_lingered = true;
                tokio::time::sleep(self.limits.linger).await;
            }
            self.adapt_request(&entries, max);
            self.surplus.extend(entries);
        }
        Ok(batch)
    }

    /// Moves surplus entries into the batch. Returns whether there is room for more.
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

    /// Sets the number of entries to request next: about as many as make a batch, if each holds as many
    /// events as the largest of the last read. It at most doubles, because the next entries may be larger.
    fn adapt_request(&mut self, entries: &[Delivered], max: u64) {
        if let Some(largest) = entries.iter().map(|entry| entry.events.max(1)).max() {
            let fitting = usize::try_from(max / largest).unwrap_or(MAX_ENTRIES);
            self.request_entries = fitting.clamp(1, (self.request_entries * 2).min(MAX_ENTRIES));
        }
    }
}
