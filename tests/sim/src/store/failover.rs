//! Losing the last changes, as when a standby that is behind is promoted, or a backup is restored.

use sluice_event::EntryId;
use sluice_event::EventKey;

use super::changes::{Change, MarkBefore, subtract};
use super::server::StoreServer;
use super::tables::Table;

impl StoreServer {
    /// Takes the store back by some commits: all open transactions end, and at most `most` of the last changes are lost.
    /// `keeps_numbers` says whether the numbers of batches are those that were given last: a standby may have them without
    /// the commits. `in_log` tells whether an entry is still in the log; `None` if there never was an entry of this id.
    /// Returns how many changes were lost, and the violations that the state before them shows.
    pub fn fail_over(
        &mut self,
        most: usize,
        keeps_numbers: bool,
        in_log: impl Fn(EntryId) -> Option<bool>,
    ) -> (usize, Vec<String>) {
        self.generation += 1;
        self.transactions.end_all();
        self.locks.release_all();
        let mut lost = 0;
        let mut last_batch = self.events.last_batch;
        while lost < most
            && let Some(change) = self.changes.pop()
        {
            match &change {
                Change::Batch { batch, .. } => last_batch = last_batch.min(batch - 1),
                Change::Created(_, _, before) => last_batch = last_batch.min(*before),
                _ => {}
            }
            self.undo(change, &in_log);
            lost += 1;
        }
        if !keeps_numbers {
            self.events.last_batch = last_batch;
        }
        (lost, self.check_identity())
    }

    fn undo(&mut self, change: Change, in_log: &impl Fn(EntryId) -> Option<bool>) {
        match change {
            Change::Batch { table, receipts, keys, counts, dead_letters, forgotten, mark, .. } => {
                for receipt in receipts {
                    self.receipts.remove(&receipt);
                    self.lost.insert(receipt);
                    let id = EntryId::from_bytes(*receipt.as_bytes());
                    if in_log(id) == Some(false) {
                        self.beyond_window.insert(id);
                    }
                }
                if let Some(table) = self.events.tables.get_mut(&table) {
                    table.rows.retain(|key, _| !keys.contains(key));
                }
                self.lost_unseen.extend(keys.into_iter().filter(|_| self.has_pooler));
                self.dead_letters.retain(|id, _| !dead_letters.contains(id));
                for (topic, lost) in counts {
                    subtract(self.counters.entry(topic).or_default(), &lost);
                }
                self.attempts.extend(forgotten);
                self.restore_marks(mark);
            }
            Change::Removal(rows) => {
                for (key, row) in &rows {
                    self.restore_removed(key, &row.topic);
                }
                self.one_table().rows.extend(rows);
            }
            Change::RemovedPartition(before, events) => {
                for (key, topic) in &events {
                    self.restore_removed(key, topic);
                }
                self.events.catalog = *before;
            }
            Change::Catalog(before) => self.events.catalog = *before,
            Change::Created(before, table, _) => {
                self.events.catalog = *before;
                self.events.tables.remove(&table);
            }
            Change::Detached(number, before) => {
                if let Some(table) = self.events.tables.get_mut(&number) {
                    table.attached = before;
                }
            }
            Change::Dropped(number, table) => _ = self.events.tables.insert(number, table),
            Change::Marks(before) => self.restore_marks(before.into_iter().rev()),
            Change::Attempt(position, before) => _ = self.attempts.insert(position, before),
        }
    }

    fn one_table(&mut self) -> &mut Table {
        self.events.tables.entry(super::tables::ONE_TABLE).or_default()
    }

    /// Takes back that an event was removed.
    fn restore_removed(&mut self, key: &EventKey, topic: &str) {
        self.removals -= 1;
        if let Some(removed) = self.removed.get_mut(key) {
            *removed -= 1;
        }
        if let Some(removed) = self.removed_of.get_mut(topic) {
            *removed -= 1;
        }
    }

    fn restore_marks(&mut self, before: impl IntoIterator<Item = MarkBefore>) {
        for (worker, mark) in before {
            match mark {
                Some(mark) => self.marks.insert(worker, mark),
                None => self.marks.remove(&worker),
            };
        }
    }
}
