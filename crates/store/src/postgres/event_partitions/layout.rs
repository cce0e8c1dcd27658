//! Where events are stored: the list of partitions, as one transaction found it.

use std::sync::{Arc, PoisonError, RwLock};

use super::super::connections::Lease;
use super::super::insert::ORDINAL_BITS;
use super::TopicIndex;
use crate::StoreError;
use crate::key_filter::FilterName;

/// Bits of a batch's number that count the batches of a partition. It is closed long before they are used up.
pub(crate) const BATCH_BITS: u32 = 24;

/// The table of all events, where they do not lie in partitions.
const ONE_TABLE: &str = "events";

/// A list of partitions. It never changes: another one has another version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Empty where events do not lie in partitions.
    version: String,
    open: Option<i32>,
    /// The partition that was the one table of all events, while it is there.
    pub former: Option<i32>,
    /// The newest first.
    pub closed: Vec<Closed>,
    /// The first `seq` of an event that was not removed.
    first_seq: i64,
}

/// Where a query of events begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lower {
    /// The first `seq`.
    pub seq: i64,
    /// Whether there are events before it.
    pub has_more: bool,
}

/// A partition that never changes again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub number: i32,
    /// The filter of its keys, and how many they are; `None` while it has none.
    pub filter: Option<(FilterName, u64)>,
}

/// Returns the name of the table of a partition.
pub(crate) fn table(number: i32) -> String {
    format!("event_rows_{number}")
}

/// Returns the statements that give the table of a partition what only it has.
///
/// The index of the keys has the hashes of the payloads too, so that a look-up in a closed partition, which finds whether a
/// duplicate is a conflict, need not read the row: it lies anywhere among all rows. Rows are only ever added, and a closed
/// partition is vacuumed once ([`super::vacuum`]), so the server need not do it before.
pub(crate) fn finish_table(table: &str) -> String {
    format!(
        "ALTER TABLE {table} ADD PRIMARY KEY (key) INCLUDE (payload_hash); \
         ALTER TABLE {table} SET (autovacuum_vacuum_insert_threshold = -1)"
    )
}

/// Returns the number before the first batch of a partition.
pub(crate) fn batches_before(number: i32) -> i64 {
    i64::from(number) << BATCH_BITS
}

/// Returns the first `seq` of a partition.
pub(crate) fn first_seq(number: i32) -> i64 {
    batches_before(number) << ORDINAL_BITS
}

/// Returns the first `seq` after a partition, as text: after the last one it is no `seq`.
pub(crate) fn end_seq(number: i32) -> String {
    (i128::from(first_seq(number)) + i128::from(first_seq(1))).to_string()
}

impl Layout {
    /// Returns the layout in which all events are in one table.
    fn of_one_table() -> Self {
        Self { version: String::new(), open: None, former: None, closed: Vec::new(), first_seq: i64::MIN }
    }

    /// Returns the table that new events are written to.
    pub fn open_table(&self) -> String {
        self.open.map_or_else(|| ONE_TABLE.to_owned(), table)
    }

    /// Returns the open partition; `None` where events do not lie in partitions.
    pub fn open(&self) -> Option<i32> {
        self.open
    }

    /// Returns the table of which old rows are deleted one by one: that of all events, as long as it is there.
    pub fn one_table(&self) -> Option<String> {
        match self.open {
            None => Some(ONE_TABLE.to_owned()),
            Some(_) => self.former.map(table),
        }
    }

    /// Returns the first `seq` of an event that was not removed.
    pub fn first_seq(&self) -> i64 {
        self.first_seq
    }

    /// Returns where a query begins to read that looks at the events before a `seq`, the newest first, in so many
    /// partitions. The table of all events that an older version has made is read alone, since it has other indexes.
    pub fn lower(&self, before: i64, partitions: u32) -> Lower {
        let newest = self.partition_before(before);
        let mut oldest = newest - i64::from(partitions) + 1;
        if let Some(former) = self.former.map(i64::from)
            && newest > former
        {
            oldest = oldest.max(former + 1);
        }
        match self.closed.last() {
            Some(last) if oldest > i64::from(last.number) => {
                Lower { seq: oldest << (BATCH_BITS + ORDINAL_BITS), has_more: true }
            }
            _ => Lower { seq: self.first_seq, has_more: false },
        }
    }

    /// Returns what the tables have that have the events before a `seq`.
    pub fn topic_index(&self, before: i64) -> TopicIndex {
        let former = if self.open.is_some() { self.former.map(i64::from) } else { Some(i64::MAX) };
        if former.is_some_and(|former| self.partition_before(before) <= former) {
            TopicIndex::Text
        } else {
            TopicIndex::Hash
        }
    }

    /// Returns the partition that has the event before a `seq`.
    fn partition_before(&self, before: i64) -> i64 {
        self.open.map_or(0, i64::from).min(before.saturating_sub(1) >> (BATCH_BITS + ORDINAL_BITS))
    }

    /// Returns the tables with the events from a `seq` on and before another.
    pub fn tables(&self, from: i64, before: i64) -> Vec<String> {
        let Some(open) = self.open else { return vec![ONE_TABLE.to_owned()] };
        let numbers = from >> (BATCH_BITS + ORDINAL_BITS)..=self.partition_before(before);
        let all = std::iter::once(open).chain(self.closed.iter().map(|closed| closed.number));
        // What was the table of all events has those before it too.
        let has_some = |number: &i32| {
            numbers.contains(&i64::from(*number))
                || (self.former == Some(*number) && *numbers.start() <= (*number).into())
        };
        all.filter(has_some).map(table).collect()
    }

    /// Returns whether the events of a batch belong into the open partition.
    pub fn has_room_for(&self, batch: i64) -> bool {
        self.open.is_none_or(|open| batch >> BATCH_BITS == i64::from(open))
    }
}

/// The layout that a process has read last. Clones of it are shared by its transactions.
#[derive(Debug)]
pub(crate) struct Layouts(RwLock<Arc<Layout>>);

impl Default for Layouts {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Layout::of_one_table())))
    }
}

impl Layouts {
    /// Returns the layout with a version that the caller's transaction has read: from memory, or within this transaction.
    pub async fn with_version(&self, lease: &mut Lease, version: Option<&str>) -> Result<Arc<Layout>, StoreError> {
        let cached = self.cached();
        if cached.version == version.unwrap_or_default() {
            return Ok(cached);
        }
        self.read(lease).await
    }

    /// Reads the present layout.
    pub async fn read(&self, lease: &mut Lease) -> Result<Arc<Layout>, StoreError> {
        // In one statement, so that the version belongs to the list.
        let select = sqlx::query_as::<_, (String, i64, i32, bool, bool, Option<String>, Option<i64>)>(
            "SELECT l.version::text, l.first_seq, p.number, p.closed_at IS NULL, p.was_events, p.filter::text, p.filter_keys \
             FROM event_layout AS l CROSS JOIN event_partitions AS p ORDER BY p.number DESC",
        );
        let mut layout = Layout::of_one_table();
        for (version, first_seq, number, is_open, was_events, filter, keys) in lease.fetch_all(select).await? {
            (layout.version, layout.first_seq) = (version, first_seq);
            if is_open {
                layout.open = Some(number);
                continue;
            }
            if was_events {
                layout.former = Some(number);
            }
            let named = filter.map(|id| (FilterName { partition: number, id }, keys.unwrap_or(0).cast_unsigned()));
            layout.closed.push(Closed { number, filter: named });
        }
        if !layout.version.is_empty() && layout.open.is_none() {
            return Err(StoreError::Failed("there is no open partition of events".into()));
        }
        let layout = Arc::new(layout);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&layout);
        Ok(layout)
    }

    fn cached(&self) -> Arc<Layout> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
impl Layout {
    /// Returns a layout with these closed partitions.
    pub fn of_closed(closed: Vec<Closed>) -> Self {
        Self { version: "a version".to_owned(), open: Some(i32::MAX), former: None, closed, first_seq: 0 }
    }
}
