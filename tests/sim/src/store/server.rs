//! The state of the model store, and the steps that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use sluice_event::{EntryId, EventKey, ReceiptId};
use sluice_log::Position;
use sluice_log::replay::Marks;
use sluice_store::marks::{Number, StoredMarks};
use sluice_store::{Counts, NewDeadLetter, StoreError};
use tokio::sync::Notify;

use super::changes::{Change, MarkBefore, add};
use super::locks::TableLocks;
use super::meters;
use super::tables::Tables;
use super::transactions::{Lock, Open, Transactions};
use crate::planted::Planted;

/// Partitions of receipts into which the time is divided for which they are kept.
const PARTITIONS: u64 = 8;

/// The store, as all processes see it.
pub struct ModelStore {
    /// Its state.
    pub server: Mutex<StoreServer>,
    /// Notifies transactions that wait for others.
    pub ended: Notify,
    /// How long a transaction waits for another, and may be idle while others wait for it.
    pub lock_timeout: Duration,
    /// How long a change of the partitions waits for the open transactions.
    pub step_timeout: Duration,
    /// With how many events a partition is closed.
    pub partition_rows: u64,
    /// From when on events that are in one table are put into partitions.
    pub switch_after: Duration,
    /// What [`sluice_store::Transaction::may_pause`] returns.
    pub may_pause: bool,
}

/// The state of the store.
#[derive(Default)]
pub struct StoreServer {
    /// The rows of events.
    pub events: Tables,
    /// The locks for changes of the partitions.
    pub locks: TableLocks,
    /// The mistake that is planted, if any.
    pub planted: Option<Planted>,
    /// The counters, by topic.
    pub counters: BTreeMap<String, Counts>,
    /// The dead letters.
    pub dead_letters: BTreeMap<i64, NewDeadLetter>,
    /// How many rows of each key retention has removed.
    pub removed: BTreeMap<EventKey, u64>,
    /// How many rows of each topic it has removed.
    pub(super) removed_of: BTreeMap<String, u64>,
    /// How many rows were removed.
    pub removals: u64,
    /// Raised when another server takes over.
    pub generation: u64,
    /// The ids of the entries that were lost and that were not stored again before they were removed from the log.
    pub(super) beyond_window: BTreeSet<EntryId>,
    /// The number of each worker's last commit, and its time in milliseconds.
    pub(super) marks: BTreeMap<String, (u64, u64)>,
    /// Everything whose commit was ever lost.
    pub(super) lost: BTreeSet<ReceiptId>,
    /// The events whose commits were lost while a pooler hid it. A process trusts its cache of them until it notices.
    pub lost_unseen: BTreeSet<EventKey>,
    /// Whether a pooler is in front of it.
    pub has_pooler: bool,
    /// The open transactions.
    pub transactions: Transactions,
    pub(super) receipts: BTreeMap<ReceiptId, u32>,
    open_partition: u32,
    opened_at: u64,
    closed_at: BTreeMap<u32, u64>,
    pub(super) attempts: BTreeMap<Position, u32>,
    pub(super) changes: Vec<Change>,
}

/// What a transaction learns when it begins.
pub struct Begun {
    /// Its id.
    pub id: u64,
    /// The number of its batch.
    pub batch: i64,
    /// The version of the list of partitions.
    pub version: String,
}

/// The number that a commit is to have: its worker, and the commits that must be there.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// The worker.
    pub worker: String,
    /// What its process knows to be confirmed.
    pub confirmed: Marks,
}

impl From<Number<'_>> for Numbered {
    fn from(number: Number<'_>) -> Self {
        Self { worker: number.worker.to_owned(), confirmed: number.confirmed.clone() }
    }
}

impl StoreServer {
    /// Begins a transaction, unless it has to wait until the partitions were changed.
    pub fn begin(&mut self, now: u64) -> Option<Begun> {
        if self.locks.make_wait() {
            return None;
        }
        self.events.last_batch += 1;
        let batch = self.events.last_batch;
        let id = self.transactions.begin(batch, self.changes.len(), now);
        Some(Begun { id, batch, version: self.events.catalog.version.clone() })
    }

    /// Returns whether something is stored, as a statement of this transaction sees it.
    pub fn is_stored(&mut self, id: u64, what: Lock) -> bool {
        let stored = match what {
            Lock::Receipt(receipt) => self.receipts.contains_key(&receipt),
            Lock::Event(table, key) => self.events.row(table, key).is_some(),
        };
        stored
            || self.transactions.get(id).is_some_and(|open| match what {
                Lock::Receipt(receipt) => open.receipts.contains(&receipt),
                Lock::Event(_, key) => open.rows.iter().any(|(own, _)| *own == key),
            })
    }

    /// Commits. Returns the number of the commit, and the violations that it shows.
    ///
    /// # Errors
    /// When the transaction has ended or has failed, or when a commit is missing: nothing is committed then.
    pub fn commit(
        &mut self,
        id: u64,
        counts: &BTreeMap<String, Counts>,
        number: Option<&Numbered>,
        now: u64,
    ) -> Result<(Option<u64>, Vec<String>), StoreError> {
        let Some(open) = self.transactions.end(id) else {
            return Err(StoreError::Unavailable("the transaction was ended by the server".into()));
        };
        if open.failed {
            return Err(StoreError::Failed("a transaction that failed cannot be committed".into()));
        }
        let mark = number.map(|number| self.mark(number, now)).transpose()?;
        let mut violations = self.check(&open, counts);
        let Open { batch, table, receipts, rows, dead_letters, forgotten, .. } = open;
        for receipt in &receipts {
            self.receipts.insert(*receipt, self.open_partition);
        }
        let keys = rows.iter().map(|(key, _)| *key).collect();
        match self.events.tables.get_mut(&table) {
            Some(table) => table.rows.extend(rows),
            None => violations.push(format!("a commit writes to partition {table}, which was dropped")),
        }
        for (topic, added) in counts {
            add(self.counters.entry(topic.clone()).or_default(), added);
        }
        let first = self.dead_letters.last_key_value().map_or(1, |(last, _)| last + 1);
        let letters: Vec<_> = (first..).zip(dead_letters).collect();
        let ids = letters.iter().map(|(id, _)| *id).collect();
        self.dead_letters.extend(letters);
        let forgotten = forgotten.and_then(|position| Some((position, self.attempts.remove(&position)?)));
        let counts = counts.clone();
        let (number, mark) = mark.unzip();
        self.changes.push(Change::Batch { batch, table, receipts, keys, counts, dead_letters: ids, forgotten, mark });
        violations.extend(self.check_identity());
        Ok((number, violations))
    }

    /// Gives a commit its number. Returns it with the mark before.
    fn mark(&mut self, Numbered { worker, confirmed }: &Numbered, now: u64) -> Result<(u64, MarkBefore), StoreError> {
        let has =
            |marks: &BTreeMap<String, (u64, u64)>, worker: &str| marks.get(worker).map_or(0, |(number, _)| *number);
        if confirmed.iter().any(|(worker, number)| *number > has(&self.marks, worker)) {
            return Err(StoreError::Behind("SLB01: commits that were confirmed are missing".into()));
        }
        let number = has(&self.marks, worker) + 1;
        Ok((number, (worker.clone(), self.marks.insert(worker.clone(), (number, now)))))
    }

    /// Returns the marks.
    pub fn stored_marks(&self) -> StoredMarks {
        let numbers = self.marks.iter().map(|(worker, (number, _))| (worker.clone(), *number)).collect();
        let of_commits = self.marks.iter().filter(|(_, (_, at))| *at > 0);
        let committed_at = of_commits.map(|(worker, (_, at))| (worker.clone(), *at)).collect();
        StoredMarks { numbers, committed_at }
    }

    /// Raises lower marks, as a commit of a worker. Returns its number.
    ///
    /// # Errors
    /// When a commit is missing that must be there.
    pub fn raise_marks(&mut self, number: &Numbered, marks: &Marks, now: u64) -> Result<u64, StoreError> {
        let (number, own) = self.mark(number, now)?;
        let mut before = vec![own];
        for (worker, raised) in marks {
            let mark = self.marks.get(worker).copied();
            if mark.is_none_or(|(number, _)| number < *raised) {
                let at = mark.map_or(0, |(_, at)| at);
                before.push((worker.clone(), self.marks.insert(worker.clone(), (*raised, at))));
            }
        }
        self.changes.push(Change::Marks(before));
        Ok(number)
    }

    /// Removes the marks of workers that are none of these and have not committed for so many milliseconds.
    pub fn forget_marks(&mut self, workers: &[String], age: u64, now: u64) -> u64 {
        let is_old =
            |worker: &String, (_, at): &mut (u64, u64)| !workers.contains(worker) && now.saturating_sub(*at) > age;
        let gone: Vec<_> = self.marks.extract_if(.., is_old).map(|(worker, mark)| (worker, Some(mark))).collect();
        let count = gone.len() as u64;
        self.changes.push(Change::Marks(gone));
        count
    }

    /// Notes that these entries were removed from the log. Returns a violation for each that was never stored.
    pub fn note_trimmed(&mut self, entries: &[EntryId]) -> Vec<String> {
        let mut violations = Vec::new();
        for &id in entries.iter().filter(|id| !self.receipts.contains_key(&ReceiptId::from(**id))) {
            if !self.lost.contains(&id.into()) {
                violations.push(format!("entry {id} was removed from the log and was never stored"));
            }
            self.beyond_window.insert(id);
        }
        violations
    }

    /// Returns the entries that were lost, and removed from the log before they were stored again.
    pub fn gone(&self) -> impl Iterator<Item = EntryId> {
        self.beyond_window.iter().copied().filter(|id| self.is_gone(*id))
    }

    /// Returns whether an entry was lost, and removed from the log before it was stored again.
    pub fn is_gone(&self, id: EntryId) -> bool {
        self.beyond_window.contains(&id) && !self.receipts.contains_key(&id.into())
    }

    /// Checks the identities that hold in every committed state.
    pub(super) fn check_identity(&self) -> Vec<String> {
        let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
        self.events.rows().for_each(|(_, row)| *rows.entry(&row.topic).or_default() += 1);
        let mut violations = Vec::new();
        for (topic, counts) in &self.counters {
            if counts.received != counts.unique + counts.duplicates {
                violations.push(format!("topic {topic}: {counts:?} in a committed state"));
            }
            let removed = self.removed_of.get(topic).copied().unwrap_or_default();
            let rows = rows.get(&**topic).copied().unwrap_or_default();
            if counts.unique != rows + removed {
                violations.push(format!("topic {topic}: {counts:?} with {rows} rows and {removed} removed ones"));
            }
        }
        violations
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
        violations.extend(meters::fault(&open.meters, &open.rows));
        if let Some((key, _)) = open.rows.iter().find(|(key, _)| self.events.find(*key).is_some()) {
            violations.push(format!("a commit inserts {key} a second time"));
        }
        let removed_since = |key: &EventKey| {
            self.changes[open.began_after..].iter().any(|change| match change {
                Change::Removal(rows) => rows.iter().any(|(removed, _)| removed == key),
                Change::RemovedPartition(_, events) => events.iter().any(|(removed, _)| removed == key),
                _ => false,
            })
        };
        for dropped in &open.dropped {
            let key = dropped.key;
            let own = open.rows.iter().any(|(own, _)| *own == key);
            let is_stored = own || self.events.find(key).is_some() || removed_since(&key);
            if !is_stored && !self.lost_unseen.contains(&key) {
                violations.push(format!("an arrival of {key} was dropped as a duplicate, and it is not stored"));
            }
        }
        violations
    }

    /// Marks an attempt to store an entry; returns how many were marked.
    pub fn mark_attempt(&mut self, position: Position) -> u32 {
        let attempts = self.attempts.entry(position).or_default();
        self.changes.push(Change::Attempt(position, *attempts));
        *attempts += 1;
        *attempts
    }

    /// Takes one mark back.
    pub fn unmark_attempt(&mut self, position: Position) {
        if let Some(attempts) = self.attempts.get_mut(&position) {
            self.changes.push(Change::Attempt(position, *attempts));
            *attempts = attempts.saturating_sub(1);
        }
    }

    pub(super) fn maintain_receipts(&mut self, now: u64, ttl: u64) {
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
