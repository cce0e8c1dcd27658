//! The state of the model store, and the steps that change it.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_event::{EntryId, EventKey, ReceiptId};
use sluice_log::Position;
use sluice_store::{Counts, NewDeadLetter, StoreError};

use super::transactions::{Lock, Open, StoredRow, Transactions};

/// Partitions of receipts into which the time is divided for which they are kept.
const PARTITIONS: u64 = 8;

/// The state of the store.
#[derive(Default)]
pub struct StoreServer {
    /// The rows of events.
    pub rows: BTreeMap<EventKey, StoredRow>,
    /// The counters, by topic.
    pub counters: BTreeMap<String, Counts>,
    /// The dead letters.
    pub dead_letters: BTreeMap<i64, NewDeadLetter>,
    /// How many rows of each key retention has removed.
    pub removed: BTreeMap<EventKey, u64>,
    /// How many times rows were removed.
    pub removals: u64,
    /// Raised when all connections were lost.
    pub generation: u64,
    /// The open transactions.
    pub transactions: Transactions,
    receipts: BTreeMap<ReceiptId, u32>,
    open_partition: u32,
    opened_at: u64,
    closed_at: BTreeMap<u32, u64>,
    attempts: BTreeMap<Position, u32>,
    changes: Vec<Change>,
}

/// A change that was committed.
enum Change {
    Batch {
        receipts: Vec<ReceiptId>,
        keys: Vec<EventKey>,
        counts: BTreeMap<String, Counts>,
        dead_letters: Vec<i64>,
    },
    /// Rows that retention removed.
    Removal(Vec<(EventKey, StoredRow)>),
    /// A dead letter was taken out: such a change is never lost.
    Replay,
}

impl StoreServer {
    /// Returns how many changes were committed.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Returns whether something is stored, as a statement of this transaction sees it.
    pub fn is_stored(&mut self, id: u64, what: Lock) -> bool {
        let stored = match what {
            Lock::Receipt(receipt) => self.receipts.contains_key(&receipt),
            Lock::Event(key) => self.rows.contains_key(&key),
        };
        stored
            || self.transactions.get(id).is_some_and(|open| match what {
                Lock::Receipt(receipt) => open.receipts.contains(&receipt),
                Lock::Event(key) => open.rows.iter().any(|(own, _)| *own == key),
            })
    }

    /// Commits. Returns the violations that this shows.
    ///
    /// # Errors
    /// When the transaction has ended or has failed: nothing is committed then.
    pub fn commit(&mut self, id: u64, counts: &BTreeMap<String, Counts>) -> Result<Vec<String>, StoreError> {
        let Some(open) = self.transactions.end(id) else {
            return Err(StoreError::Unavailable("the transaction was ended by the server".into()));
        };
        if open.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        let violations = self.check(&open, counts);
        let Open { receipts, rows, dead_letters, taken, forgotten, .. } = open;
        for receipt in &receipts {
            self.receipts.insert(*receipt, self.open_partition);
        }
        let keys = rows.iter().map(|(key, _)| *key).collect();
        self.rows.extend(rows);
        for (topic, added) in counts {
            add(self.counters.entry(topic.clone()).or_default(), added);
        }
        let first = self.dead_letters.last_key_value().map_or(1, |(last, _)| last + 1);
        let letters: Vec<_> = (first..).zip(dead_letters).collect();
        let ids = letters.iter().map(|(id, _)| *id).collect();
        self.dead_letters.extend(letters);
        if let Some(position) = forgotten {
            self.attempts.remove(&position);
        }
        if let Some(taken) = taken {
            self.dead_letters.remove(&taken);
            self.changes.push(Change::Replay);
        }
        self.changes.push(Change::Batch { receipts, keys, counts: counts.clone(), dead_letters: ids });
        Ok(violations)
    }

    /// Checks what a commit adds: the counts against each other and against the rows, and that each dropped
    /// duplicate was stored at some time since the transaction began.
    fn check(&self, open: &Open, counts: &BTreeMap<String, Counts>) -> Vec<String> {
        let mut violations = Vec::new();
        for (topic, counts) in counts {
            let rows = open.rows.iter().filter(|(_, row)| row.topic == *topic).count() as u64;
            if counts.received != counts.unique + counts.duplicates || counts.unique != rows {
                violations.push(format!("a commit counts {counts:?} in topic {topic} and inserts {rows} rows"));
            }
        }
        if let Some((key, _)) = open.rows.iter().find(|(key, _)| self.rows.contains_key(key)) {
            violations.push(format!("a commit inserts {key} a second time"));
        }
        let removed_since = |key: &EventKey| {
            self.changes[open.began_after..].iter().any(|change| match change {
                Change::Removal(rows) => rows.iter().any(|(removed, _)| removed == key),
                Change::Batch { .. } | Change::Replay => false,
            })
        };
        for dropped in &open.dropped {
            let key = dropped.key;
            let own = open.rows.iter().any(|(own, _)| *own == key);
            if !own && !self.rows.contains_key(&key) && !removed_since(&key) {
                violations.push(format!("an arrival of {key} was dropped as a duplicate, and it is not stored"));
            }
        }
        violations
    }

    /// Takes the store back by some commits, as when a standby that is behind is promoted: all connections are
    /// lost, and at most `most` of the last batches, as long as their entries are `replayable` (which is `None` for
    /// an id that is not one of an entry). Returns how many.
    pub fn fail_over(&mut self, most: usize, replayable: impl Fn(EntryId) -> Option<bool>) -> usize {
        self.generation += 1;
        self.transactions.end_all();
        let mut lost = 0;
        while lost < most {
            match self.changes.pop() {
                Some(Change::Batch { receipts, keys, counts, dead_letters }) => {
                    let mut ids = receipts.iter().map(|receipt| EntryId::from_bytes(*receipt.as_bytes()));
                    if ids.any(|id| replayable(id) == Some(false)) {
                        self.changes.push(Change::Batch { receipts, keys, counts, dead_letters });
                        return lost;
                    }
                    self.receipts.retain(|receipt, _| !receipts.contains(receipt));
                    self.rows.retain(|key, _| !keys.contains(key));
                    self.dead_letters.retain(|id, _| !dead_letters.contains(id));
                    for (topic, lost) in counts {
                        subtract(self.counters.entry(topic).or_default(), &lost);
                    }
                    lost += 1;
                }
                Some(Change::Removal(rows)) => {
                    for (key, row) in rows {
                        if let Some(removed) = self.removed.get_mut(&key) {
                            *removed -= 1;
                        }
                        self.rows.insert(key, row);
                    }
                }
                Some(Change::Replay) => {
                    self.changes.push(Change::Replay);
                    return lost;
                }
                None => return lost,
            }
        }
        lost
    }

    /// Marks an attempt to store an entry; returns how many were marked.
    pub fn mark_attempt(&mut self, position: Position) -> u32 {
        let attempts = self.attempts.entry(position).or_default();
        *attempts += 1;
        *attempts
    }

    /// Takes one mark back.
    pub fn unmark_attempt(&mut self, position: Position) {
        if let Some(attempts) = self.attempts.get_mut(&position) {
            *attempts = attempts.saturating_sub(1);
        }
    }

    /// Removes at most `max_events` old events, and old receipts by whole partitions. Returns how many events were
    /// removed, and whether others are left that are old.
    pub fn maintain(
        &mut self,
        now: u64,
        receipts_ttl: Duration,
        retention: Option<Duration>,
        max_events: usize,
    ) -> (u64, bool) {
        self.maintain_receipts(now, receipts_ttl.as_millis() as u64);
        let Some(retention) = retention else { return (0, false) };
        let cutoff = now.saturating_sub(retention.as_millis() as u64);
        let old: Vec<_> = self.rows.extract_if(.., |_, row| row.inserted_at < cutoff).take(max_events).collect();
        let count = old.len() as u64;
        if count > 0 {
            self.removals += 1;
            old.iter().for_each(|(key, _)| *self.removed.entry(*key).or_default() += 1);
            self.changes.push(Change::Removal(old));
        }
        (count, count == max_events as u64)
    }

    fn maintain_receipts(&mut self, now: u64, ttl: u64) {
        let has_receipts = self.receipts.values().any(|partition| *partition == self.open_partition);
        // A partition is closed when every transaction that writes to it has ended.
        if now.saturating_sub(self.opened_at) >= ttl / PARTITIONS && has_receipts && self.transactions.is_empty() {
            self.closed_at.insert(self.open_partition, now);
            self.open_partition += 1;
            self.opened_at = now;
        }
        let closed_at = &mut self.closed_at;
        let dropped: Vec<_> = closed_at.extract_if(.., |_, closed_at| *closed_at < now.saturating_sub(ttl)).collect();
        self.receipts.retain(|_, partition| dropped.iter().all(|(dropped, _)| dropped != partition));
    }
}

fn add(sum: &mut Counts, added: &Counts) {
    sum.received += added.received;
    sum.unique += added.unique;
    sum.duplicates += added.duplicates;
    sum.conflicts += added.conflicts;
}

fn subtract(sum: &mut Counts, lost: &Counts) {
    sum.received -= lost.received;
    sum.unique -= lost.unique;
    sum.duplicates -= lost.duplicates;
    sum.conflicts -= lost.conflicts;
}
