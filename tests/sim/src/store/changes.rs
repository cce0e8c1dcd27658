//! The changes that were committed, as they are undone when the last ones are lost.

use std::collections::BTreeMap;

use sluice_event::{EventKey, ReceiptId};
use sluice_log::Position;
use sluice_store::Counts;

use super::tables::{Attached, Catalog, Table};
use super::transactions::StoredRow;

/// The mark of a worker as it was before: number and time, or none.
pub type MarkBefore = (String, Option<(u64, u64)>);

/// A change that was committed.
pub enum Change {
    /// A batch.
    Batch {
        /// Its number.
        batch: i64,
        /// The table that it wrote to.
        table: i32,
        /// The receipts that it stored.
        receipts: Vec<ReceiptId>,
        /// The events that it stored.
        keys: Vec<EventKey>,
        /// What it counted.
        counts: BTreeMap<String, Counts>,
        /// The dead letters that it stored.
        dead_letters: Vec<i64>,
        /// The entry whose marks of attempts it deleted, with their number.
        forgotten: Option<(Position, u32)>,
        /// The mark of its worker before it.
        mark: Option<MarkBefore>,
    },
    /// Rows that retention removed from the table of all events.
    Removal(Vec<(EventKey, StoredRow)>),
    /// A partition that retention removed: the list before, and the keys and topics of the events.
    RemovedPartition(Box<Catalog>, Vec<(EventKey, String)>),
    /// Another list of partitions, or other filters: the list before.
    Catalog(Box<Catalog>),
    /// A table that was created together with a change of the list, and the last number of a batch before.
    Created(Box<Catalog>, i32, i64),
    /// A table that was detached: its state before.
    Detached(i32, Attached),
    /// A table that was dropped.
    Dropped(i32, Table),
    /// Marks of workers that were raised or forgotten.
    Marks(Vec<MarkBefore>),
    /// An attempt that was marked or taken back, with the number of marks before.
    Attempt(Position, u32),
}

/// Adds counts.
pub fn add(sum: &mut Counts, added: &Counts) {
    sum.received += added.received;
    sum.unique += added.unique;
    sum.duplicates += added.duplicates;
    sum.conflicts += added.conflicts;
}

/// Subtracts counts.
pub fn subtract(sum: &mut Counts, lost: &Counts) {
    sum.received -= lost.received;
    sum.unique -= lost.unique;
    sum.duplicates -= lost.duplicates;
    sum.conflicts -= lost.conflicts;
}
