//! The tables of events of the model store: one for each partition, and the list of partitions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sluice_event::EventKey;
use sluice_store::partitions::{
    BATCH_BITS, FilterName, Group, Layout, Listed, OpenPartition, Unfinished, batches_before,
};

use super::transactions::StoredRow;

/// The table of all events, before they are put into partitions.
pub const ONE_TABLE: i32 = 0;

/// A partition, as the list has it.
#[derive(Debug, Clone)]
struct Listing {
    opened_at: u64,
    closed_at: Option<u64>,
    /// How many events had been stored when it was opened.
    unique_before: u64,
    /// The id of its filter, and the number of keys in it.
    filter: Option<(String, u64)>,
}

/// A group of partitions, as the list has it.
#[derive(Debug, Clone)]
struct GroupListing {
    group: Group,
    segments: u32,
    is_complete: bool,
}

/// The list of partitions, with the filters. It is copied before each change, so that the change can be undone.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Another one after each change; empty while all events are in one table.
    pub version: String,
    list: BTreeMap<i32, Listing>,
    groups: Vec<GroupListing>,
    segments: BTreeMap<(String, u32), Bytes>,
}

/// How far a table is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// It is a partition.
    Yes,
    /// The server has begun to detach it.
    Ending,
    /// It is a table of its own.
    No,
}

/// The table of a partition.
#[derive(Debug)]
pub struct Table {
    /// Its rows.
    pub rows: BTreeMap<EventKey, StoredRow>,
    /// Whether it is a partition.
    pub attached: Attached,
}

impl Default for Table {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), attached: Attached::Yes }
    }
}

/// All tables of events.
#[derive(Debug)]
pub struct Tables {
    /// The list of partitions.
    pub catalog: Catalog,
    /// The tables, by the numbers of their partitions. Those that are not listed were removed.
    pub tables: BTreeMap<i32, Table>,
    /// The last number of a batch that was given. As a sequence it is not rolled back.
    pub last_batch: i64,
}

impl Default for Tables {
    /// Returns one table of all events.
    fn default() -> Self {
        let open = Listing { opened_at: 0, closed_at: None, unique_before: 0, filter: None };
        let catalog = Catalog { list: BTreeMap::from([(ONE_TABLE, open)]), ..Catalog::default() };
        Self { catalog, tables: BTreeMap::from([(ONE_TABLE, Table::default())]), last_batch: 0 }
    }
}

impl Catalog {
    /// Returns the list as programs read it.
    pub fn layout(&self) -> Layout {
        if self.version.is_empty() {
            return Layout::of_one_table();
        }
        let listed = self.list.iter().rev().map(|(number, listing)| Listed {
            number: *number,
            is_open: listing.closed_at.is_none(),
            was_events: *number == ONE_TABLE,
            filter: listing.filter.clone(),
        });
        let complete = self.groups.iter().filter(|listing| listing.is_complete);
        let mut groups: Vec<_> = complete.map(|listing| listing.group.clone()).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.first));
        Layout::of(self.version.clone(), 0, listed.collect(), groups).unwrap_or_else(|_| Layout::of_one_table())
    }

    /// Returns whether a partition is listed.
    pub fn has(&self, number: i32) -> bool {
        self.list.contains_key(&number)
    }

    /// Returns the number of the open partition.
    pub fn open(&self) -> Option<i32> {
        self.list.iter().find(|(_, listing)| listing.closed_at.is_none()).map(|(number, _)| *number)
    }

    /// Returns the numbers of all partitions.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.list.keys().copied()
    }

    /// Closes a partition and opens the next one.
    pub fn close(&mut self, number: i32, next: i32, now: u64, unique: u64) {
        if let Some(listing) = self.list.get_mut(&number) {
            listing.closed_at = Some(now);
        }
        self.list.insert(next, Listing { opened_at: now, closed_at: None, unique_before: unique, filter: None });
    }

    /// Takes the oldest partition from the list if it was closed before a time, with its filter. Returns its number.
    pub fn remove_oldest(&mut self, cutoff: u64) -> Option<i32> {
        let (number, listing) = self.list.first_key_value()?;
        let number = listing.closed_at.is_some_and(|closed_at| closed_at < cutoff).then_some(*number)?;
        if let Some((id, _)) = self.list.remove(&number).and_then(|listing| listing.filter) {
            self.segments.retain(|(filter, _), _| *filter != id);
        }
        self.remove_groups(|group| group.last <= number);
        Some(number)
    }

    /// Returns whether a partition has no filter.
    pub fn has_no_filter(&self, number: i32) -> bool {
        self.list.get(&number).is_some_and(|listing| listing.filter.is_none())
    }

    /// Returns a stored segment.
    pub fn segment(&self, filter: &FilterName, number: u32) -> Option<Bytes> {
        self.segments.get(&(filter.id.clone(), number)).cloned()
    }

    /// Stores a segment.
    pub fn insert_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) {
        self.segments.insert((filter.id.clone(), number), content.into());
    }

    /// Removes the segments of filters that no partition and no group has.
    pub fn remove_unfinished(&mut self) {
        let of_partitions = self.list.values().filter_map(|listing| listing.filter.as_ref()).map(|(id, _)| id);
        let of_groups = self.groups.iter().map(|listing| &listing.group.filter.id);
        let filters: BTreeSet<_> = of_partitions.chain(of_groups).collect();
        self.segments.retain(|(filter, _), _| filters.contains(filter));
    }

    /// Returns the oldest group whose filter is not complete.
    pub fn unfinished_group(&self) -> Option<Unfinished> {
        let unfinished = self.groups.iter().filter(|listing| !listing.is_complete);
        let oldest = unfinished.min_by_key(|listing| listing.group.first)?;
        Some(Unfinished { group: oldest.group.clone(), segments: oldest.segments })
    }

    /// Begins the filter of a group.
    pub fn begin_group(&mut self, group: Group) {
        self.groups.push(GroupListing { group, segments: 0, is_complete: false });
    }

    /// Stores the next segment of the filter of a group, unless it is stored.
    pub fn add_group_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) {
        self.segments.entry((filter.id.clone(), number)).or_insert_with(|| content.into());
        for listing in self.groups.iter_mut().filter(|listing| listing.group.filter.id == filter.id) {
            listing.segments = listing.segments.max(number + 1);
        }
    }

    /// Lists a group, up to this partition, instead of smaller ones. Returns false if it is not there any more.
    pub fn finish_group(&mut self, Group { first, filter, .. }: &Group, last: i32) -> bool {
        let listing = self.groups.iter_mut().find(|listing| listing.group.filter.id == filter.id);
        let Some(listing) = listing else { return false };
        (listing.is_complete, listing.group.last) = (true, last);
        self.remove_groups(|other| other.filter.id != filter.id && other.first <= last && other.last >= *first);
        true
    }

    /// Removes groups, with their filters. Returns whether there was one of them.
    fn remove_groups(&mut self, is_removed: impl Fn(&Group) -> bool) -> bool {
        let (removed, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.groups).into_iter().partition(|listing| is_removed(&listing.group));
        self.groups = left;
        self.segments.retain(|(id, _), _| removed.iter().all(|listing| listing.group.filter.id != *id));
        !removed.is_empty()
    }

    /// Gives a closed partition its filter. Returns false if it has one, or is not there.
    pub fn finish_filter(&mut self, filter: &FilterName, keys: u64) -> bool {
        let listing = self.list.get_mut(&filter.partition);
        let Some(listing) = listing.filter(|listing| listing.filter.is_none() && listing.closed_at.is_some()) else {
            return false;
        };
        listing.filter = Some((filter.id.clone(), keys));
        true
    }

    /// Forgets the filter of a partition or a group. Returns false if none has it.
    pub fn forget_filter(&mut self, filter: &FilterName) -> bool {
        self.segments.retain(|(id, _), _| *id != filter.id);
        if self.remove_groups(|group| group.filter.id == filter.id) {
            return true;
        }
        match self.list.get_mut(&filter.partition) {
            Some(listing) if listing.filter.as_ref().is_some_and(|(id, _)| *id == filter.id) => {
                listing.filter = None;
                true
            }
            _ => false,
        }
    }

    /// Returns the stored segments, to damage them.
    pub fn segments_mut(&mut self) -> Vec<&mut Bytes> {
        self.segments.values_mut().collect()
    }

    /// Removes a stored segment, the one at this place among all.
    pub fn lose_segment(&mut self, place: usize) {
        if let Some(key) = self.segments.keys().nth(place).cloned() {
            self.segments.remove(&key);
        }
    }
}

impl Tables {
    /// Returns the open partition, as far as its limits are concerned. `unique` is the number of all events that were ever
    /// stored.
    pub fn open_partition(&self, now: u64, unique: u64) -> Option<OpenPartition> {
        let (number, open) = self.catalog.list.iter().find(|(_, listing)| listing.closed_at.is_none())?;
        Some(OpenPartition {
            number: *number,
            events: unique.cast_signed() - open.unique_before.cast_signed(),
            batches: self.last_batch - batches_before(*number),
            age: (now.cast_signed() - open.opened_at.cast_signed()) * 1_000,
        })
    }

    /// Moves the numbers of batches to the range of a partition.
    pub fn move_batches(&mut self, number: i32) {
        self.last_batch = self.last_batch.max(batches_before(number));
    }

    /// Returns the partition whose range has the number of a batch.
    pub fn partition_of(batch: i64) -> i32 {
        i32::try_from(batch >> BATCH_BITS).unwrap_or(i32::MAX)
    }

    /// Returns the row with a key in one table.
    pub fn row(&self, table: i32, key: EventKey) -> Option<&StoredRow> {
        self.tables.get(&table)?.rows.get(&key)
    }

    /// Returns all rows that were not removed.
    pub fn rows(&self) -> impl Iterator<Item = (&EventKey, &StoredRow)> {
        self.catalog.numbers().filter_map(|number| self.tables.get(&number)).flat_map(|table| &table.rows)
    }

    /// Returns the row with a key that was not removed.
    pub fn find(&self, key: EventKey) -> Option<&StoredRow> {
        self.catalog.numbers().find_map(|number| self.row(number, key))
    }

    /// Returns the tables that were removed and not dropped, and how far they are removed.
    pub fn removed(&self) -> Vec<(i32, Attached)> {
        let removed = self.tables.iter().filter(|(number, _)| !self.catalog.has(**number));
        removed.map(|(number, table)| (*number, table.attached)).collect()
    }
}
