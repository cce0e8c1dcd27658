//! The tables of partitions, and the numbers of the events in them.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::connections::Lease;
use super::super::insert::ORDINAL_BITS;
use super::TopicIndex;
use crate::StoreError;
use crate::partitions::{BATCH_BITS, FilterName, Group, Layout, LayoutSource, Layouts, Listed, batches_before};

/// The table of all events, where they do not lie in partitions.
const ONE_TABLE: &str = "events";

/// Where a query of events begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lower {
    /// The first `seq`.
    pub seq: i64,
    /// Whether there are events before it.
    pub has_more: bool,
}

/// Returns the name of the table of a partition.
pub(crate) fn table(number: i32) -> String {
    format!("event_rows_{number}")
}

/// Returns the name of the table of the audit trail with the batches of a partition.
pub(crate) fn audit_table(number: i32) -> String {
    format!("audit_rows_{number}")
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

/// Returns the first `seq` of a partition.
pub(crate) fn first_seq(number: i32) -> i64 {
    batches_before(number) << ORDINAL_BITS
}

/// Returns the first `seq` after a partition, as text: after the last one it is no `seq`.
pub(crate) fn end_seq(number: i32) -> String {
    (i128::from(first_seq(number)) + i128::from(first_seq(1))).to_string()
}

impl Layout {
    /// Returns the table that new events are written to.
    pub(crate) fn open_table(&self) -> String {
        self.open().map_or_else(|| ONE_TABLE.to_owned(), table)
    }

    /// Returns the table of which old rows are deleted one by one: that of all events, as long as it is there.
    pub(crate) fn one_table(&self) -> Option<String> {
        match self.open() {
            None => Some(ONE_TABLE.to_owned()),
            Some(_) => self.former.map(table),
        }
    }

    /// Returns where a query begins to read that looks at the events before a `seq`, the newest first, in so many
    /// partitions. The table of all events that an older version has made is read alone, since it has other indexes.
    pub(crate) fn lower(&self, before: i64, partitions: u32) -> Lower {
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
            _ => Lower { seq: self.first_seq(), has_more: false },
        }
    }

    /// Returns what the tables have that have the events before a `seq`.
    pub(crate) fn topic_index(&self, before: i64) -> TopicIndex {
        let former = if self.open().is_some() { self.former.map(i64::from) } else { Some(i64::MAX) };
        if former.is_some_and(|former| self.partition_before(before) <= former) {
            TopicIndex::Text
        } else {
            TopicIndex::Hash
        }
    }

    /// Returns the partition that has the event before a `seq`.
    fn partition_before(&self, before: i64) -> i64 {
        self.open().map_or(0, i64::from).min(before.saturating_sub(1) >> (BATCH_BITS + ORDINAL_BITS))
    }

    /// Returns the tables with the events from a `seq` on and before another.
    pub(crate) fn tables(&self, from: i64, before: i64) -> Vec<String> {
        let Some(open) = self.open() else { return vec![ONE_TABLE.to_owned()] };
        let numbers = from >> (BATCH_BITS + ORDINAL_BITS)..=self.partition_before(before);
        let all = std::iter::once(open).chain(self.closed.iter().map(|closed| closed.number));
        // What was the table of all events has those before it too.
        let has_some = |number: &i32| {
            numbers.contains(&i64::from(*number))
                || (self.former == Some(*number) && *numbers.start() <= (*number).into())
        };
        all.filter(has_some).map(table).collect()
    }
}

/// Returns the present layout. Reads its version and, only if that has changed, the list of partitions.
pub(crate) async fn current(lease: &mut Lease, layouts: &Layouts) -> Result<Arc<Layout>, StoreError> {
    let version: Option<(String,)> =
        lease.fetch_optional(sqlx::query_as("SELECT version::text FROM event_layout")).await?;
    layouts.with_version(lease, version.as_ref().map(|(version,)| &**version)).await
}

/// A row of the list: a partition, or a group where it has a level.
type ListRow = (String, i64, i32, Option<i32>, Option<i32>, bool, bool, Option<String>, Option<i64>);

#[async_trait]
impl LayoutSource for Lease {
    async fn read_layout(&mut self) -> Result<Layout, StoreError> {
        // In one statement, so that the version belongs to the list.
        let select = sqlx::query_as::<_, ListRow>(
            "SELECT l.version::text, l.first_seq, p.number, p.last, p.level, p.is_open, p.was_events, p.filter::text, p.keys \
             FROM event_layout AS l CROSS JOIN ( \
                 SELECT number, NULL, NULL, closed_at IS NULL, was_events, filter, filter_keys FROM event_partitions \
                 UNION ALL \
                 SELECT first_partition, last_partition, level, false, false, filter, keys \
                 FROM event_filter_groups WHERE is_complete \
             ) AS p (number, last, level, is_open, was_events, filter, keys) \
             ORDER BY p.number DESC",
        );
        let rows = self.fetch_all(select).await?;
        let Some((version, first_seq, ..)) = rows.first() else { return Ok(Layout::of_one_table()) };
        let (version, first_seq) = (version.clone(), *first_seq);
        let (mut listed, mut groups) = (Vec::new(), Vec::new());
        for (_, _, number, last, level, is_open, was_events, filter, keys) in rows {
            let filter = filter.map(|id| (id, keys.unwrap_or(0).cast_unsigned()));
            match (last, level, filter) {
                (Some(last), Some(level), Some((id, keys))) => {
                    let filter = FilterName { partition: number, id };
                    groups.push(Group { first: number, last, level: level.cast_unsigned(), filter, keys });
                }
                (_, _, filter) => listed.push(Listed { number, is_open, was_events, filter }),
            }
        }
        Layout::of(version, first_seq, listed, groups)
    }
}
