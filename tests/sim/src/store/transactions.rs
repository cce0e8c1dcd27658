//! Open transactions, and the locks on receipts and keys that they wait for.

use std::collections::BTreeMap;

use sluice_event::{EventKey, PayloadHash, ReceiptId, RequestId};
use sluice_log::Position;
use sluice_store::{Dropped, NewDeadLetter};

/// What a transaction inserts, and others that insert the same must wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// A receipt.
    Receipt(ReceiptId),
    /// The row of an event in the table of a partition.
    Event(i32, EventKey),
}

/// A row of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Its topic.
    pub topic: String,
    /// Its id.
    pub event_id: String,
    /// The hash of its payload.
    pub hash: PayloadHash,
    /// The number in its payload, if it has one.
    pub value: Option<u64>,
    /// The request that it came with.
    pub request: RequestId,
    /// When it was inserted, by the store's clock in milliseconds.
    pub inserted_at: u64,
}

/// What a transaction will have done once it is committed.
#[derive(Default)]
pub struct Open {
    /// The number of its batch.
    pub batch: i64,
    /// The table that it writes to.
    pub table: i32,
    /// The receipts that are new.
    pub receipts: Vec<ReceiptId>,
    /// The rows that are new.
    pub rows: Vec<(EventKey, StoredRow)>,
    /// The dead letters.
    pub dead_letters: Vec<NewDeadLetter>,
    /// The rows for the audit trail.
    pub dropped: Vec<Dropped>,
    /// What the meters have counted, as rows.
    pub meters: Vec<Vec<u8>>,
    /// The entry whose marks of attempts are deleted.
    pub forgotten: Option<Position>,
    /// How many rows there were when the savepoint was set.
    pub savepoint: Option<usize>,
    /// Whether a statement failed.
    pub failed: bool,
    /// The number of the last change when it began.
    pub began_after: usize,
    /// When its last statement ended, in simulated milliseconds.
    pub used_at: u64,
    /// The transaction that it waits for.
    waits_for: Option<u64>,
}

/// The result of trying to lock something.
pub enum Locked {
    /// It is locked by this transaction now.
    Mine,
    /// Another transaction must end first.
    Wait {
        /// The other transaction.
        other: u64,
        /// When that one was last used, in simulated milliseconds; later than ever if it waits itself.
        used_at: u64,
    },
    /// The other transaction waits for this one.
    Deadlock,
    /// This transaction was ended by the server.
    Ended,
}

/// All open transactions.
#[derive(Default)]
pub struct Transactions {
    open: BTreeMap<u64, Open>,
    locks: BTreeMap<Lock, u64>,
    last: u64,
}

impl Transactions {
    /// Begins a transaction.
    pub fn begin(&mut self, batch: i64, began_after: usize, now: u64) -> u64 {
        self.last += 1;
        self.open.insert(self.last, Open { batch, began_after, used_at: now, ..Open::default() });
        self.last
    }

    /// Returns an open transaction.
    pub fn get(&mut self, id: u64) -> Option<&mut Open> {
        self.open.get_mut(&id)
    }

    /// Returns whether there is no open transaction.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends a transaction, and returns what it had done. Its locks are free.
    pub fn end(&mut self, id: u64) -> Option<Open> {
        self.locks.retain(|_, owner| *owner != id);
        self.open.remove(&id)
    }

    /// Ends all of them.
    pub fn end_all(&mut self) {
        self.open.clear();
        self.locks.clear();
    }

    /// Locks something, unless another transaction has locked it.
    pub fn lock(&mut self, id: u64, what: Lock) -> Locked {
        if !self.open.contains_key(&id) {
            return Locked::Ended;
        }
        let other = *self.locks.entry(what).or_insert(id);
        if let Some(open) = self.open.get_mut(&id) {
            open.waits_for = (other != id).then_some(other);
        }
        if other == id {
            return Locked::Mine;
        }
        let mut next = Some(other);
        while let Some(waiting) = next {
            if waiting == id {
                self.stop_waiting(id);
                return Locked::Deadlock;
            }
            next = self.open.get(&waiting).and_then(|open| open.waits_for);
        }
        let used_at = |open: &Open| if open.waits_for.is_some() { u64::MAX } else { open.used_at };
        let used_at = self.open.get(&other).map_or(0, used_at);
        Locked::Wait { other, used_at }
    }

    /// Notes that a transaction waits for no other one any more.
    pub fn stop_waiting(&mut self, id: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.waits_for = None;
        }
    }

    /// Undoes what was inserted since the savepoint, and removes it.
    pub fn rollback_to_savepoint(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let rows = open.savepoint.take().unwrap_or_default();
        for (key, _) in open.rows.drain(rows..) {
            self.locks.remove(&Lock::Event(open.table, key));
        }
        open.failed = false;
    }
}
