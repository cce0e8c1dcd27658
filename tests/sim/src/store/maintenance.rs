//! What the maintenance of partitions does at the server, each in one step.

use std::time::Duration;

use sluice_store::StoreError;
use sluice_store::partitions::{FilterName, Group, NewGroup};

use super::changes::Change;
use super::server::StoreServer;
use super::tables::{Attached, ONE_TABLE, Table, Tables};
use crate::planted::Planted;

impl StoreServer {
    /// Returns the number of all events that were ever stored, as the counters tell.
    pub fn unique(&self) -> u64 {
        self.counters.values().map(|counts| counts.unique).sum()
    }

    /// Puts the events into partitions from the beginning, as a new schema has them.
    pub fn begin_with_partitions(&mut self) {
        self.events = Tables::default();
        self.open_next(ONE_TABLE, 1, 0, 1);
        self.events.tables.remove(&ONE_TABLE);
        self.events.catalog.remove_oldest(u64::MAX);
        self.changes.clear();
    }

    /// Closes a partition and opens the next one. `random` makes the version of the new list.
    ///
    /// # Errors
    /// If another one is open meanwhile.
    pub fn close(&mut self, number: i32, next: i32, now: u64, random: u64) -> Result<(), StoreError> {
        if self.events.catalog.open() != Some(number) {
            let message = "event_partitions_open: another partition is open".into();
            return Err(StoreError::Refused { code: "23505".into(), message });
        }
        self.open_next(number, next, now, random);
        Ok(())
    }

    fn open_next(&mut self, number: i32, next: i32, now: u64, random: u64) {
        let unique = self.unique();
        self.changes.push(Change::Created(Box::new(self.events.catalog.clone()), next, self.events.last_batch));
        self.events.catalog.close(number, next, now, unique);
        self.events.tables.insert(next, Table::default());
        self.events.move_batches(next);
        self.change_version(random);
    }

    /// Gives the list of partitions another version.
    fn change_version(&mut self, random: u64) {
        let open = self.events.catalog.open();
        self.events.catalog.version = match self.planted {
            Some(Planted::VersionComesAgain) => format!("{open:?}"),
            _ => random.to_string(),
        };
    }

    /// Changes filters, if `change` returns that it makes a difference to the list, with another version.
    pub fn change_filters(&mut self, random: u64, change: impl FnOnce(&mut super::tables::Catalog) -> bool) {
        let before = Box::new(self.events.catalog.clone());
        if change(&mut self.events.catalog) {
            self.change_version(random);
        }
        self.changes.push(Change::Catalog(before));
    }

    /// Returns the number of keys in a partition, and a random name for their filter.
    ///
    /// # Errors
    /// If its table was dropped.
    pub fn name_filter(&self, partition: i32, random: u64) -> Result<(FilterName, u64), StoreError> {
        let table = self.events.tables.get(&partition).ok_or_else(|| missing(partition))?;
        let id = match self.planted {
            Some(Planted::FilterOfAnyPartition) => format!("of {partition}"),
            _ => format!("{random:016x}"),
        };
        Ok((FilterName { partition, id }, table.rows.len() as u64))
    }

    /// Begins the filter of a group, and gives it a random name.
    pub fn begin_group(&mut self, NewGroup { first, last, level, keys }: NewGroup, random: u64) -> Group {
        let id = match self.planted {
            Some(Planted::FilterOfAnyPartition) => format!("of {first} to {last}"),
            _ => format!("{random:016x}"),
        };
        let group = Group { first, last, level, filter: FilterName { partition: first, id }, keys };
        let listed = group.clone();
        self.change_filters(random, |catalog| {
            catalog.begin_group(listed);
            false
        });
        group
    }

    /// Lists a group whose filter is complete.
    pub fn finish_group(&mut self, group: &Group, random: u64) {
        let last = match self.planted {
            Some(Planted::GroupOfOneMore) => group.last + 1,
            _ => group.last,
        };
        self.change_filters(random, |catalog| catalog.finish_group(group, last));
    }

    /// Removes old events: at most so many of the table of all events, or the oldest partition. Returns how many were
    /// removed, and whether others may be left that are old. Removes nothing while partitions are changed.
    pub fn remove_events(&mut self, now: u64, retention: Duration, max_events: usize, random: u64) -> (u64, bool) {
        let cutoff = now.saturating_sub(retention.as_millis() as u64);
        if !self.locks.are_free() {
            return (0, false);
        }
        let count = self.remove_rows(cutoff, max_events);
        if count > 0 || self.events.catalog.version.is_empty() {
            return (count, count == max_events as u64);
        }
        let before = Box::new(self.events.catalog.clone());
        let Some(number) = self.events.catalog.remove_oldest(cutoff) else { return (0, false) };
        let rows = self.events.tables.get(&number).map(|table| &table.rows).into_iter().flatten();
        let events: Vec<_> = rows.map(|(key, row)| (*key, row.topic.clone())).collect();
        for (key, topic) in &events {
            self.removals += 1;
            *self.removed.entry(*key).or_default() += 1;
            *self.removed_of.entry(topic.clone()).or_default() += 1;
        }
        self.change_version(random);
        let count = events.len() as u64;
        self.changes.push(Change::RemovedPartition(before, events));
        (count, true)
    }

    /// Removes old rows one by one from the table of all events, as long as it is there.
    fn remove_rows(&mut self, cutoff: u64, max_events: usize) -> u64 {
        let is_listed = self.events.catalog.has(ONE_TABLE);
        let Some(table) = self.events.tables.get_mut(&ONE_TABLE).filter(|_| is_listed) else { return 0 };
        let old: Vec<_> = table.rows.extract_if(.., |_, row| row.inserted_at < cutoff).take(max_events).collect();
        let count = old.len() as u64;
        if count > 0 {
            self.removals += count;
            for (key, row) in &old {
                *self.removed.entry(*key).or_default() += 1;
                *self.removed_of.entry(row.topic.clone()).or_default() += 1;
            }
            self.changes.push(Change::Removal(old));
        }
        count
    }

    /// Detaches a table that was removed, by one of two steps.
    pub fn detach(&mut self, number: i32) {
        let Some(table) = self.events.tables.get_mut(&number) else { return };
        self.changes.push(Change::Detached(number, table.attached));
        table.attached = match table.attached {
            Attached::Yes => Attached::Ending,
            Attached::Ending | Attached::No => Attached::No,
        };
    }

    /// Drops a table.
    pub fn drop_table(&mut self, number: i32) {
        if let Some(table) = self.events.tables.remove(&number) {
            self.changes.push(Change::Dropped(number, table));
        }
    }
}

/// Returns the error of a statement that names a table which was dropped.
pub fn missing(partition: i32) -> StoreError {
    StoreError::Failed(format!("42P01: relation \"event_rows_{partition}\" does not exist"))
}
