//! Where events are stored: the list of partitions, as one transaction found it.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::group::Group;
use super::key_filter::FilterName;
use crate::StoreError;

/// Bits of a batch's number that count the batches of a partition. It is closed long before they are used up.
pub const BATCH_BITS: u32 = 24;

/// Returns the number before the first batch of a partition.
pub fn batches_before(number: i32) -> i64 {
    i64::from(number) << BATCH_BITS
}

/// A list of partitions. It never changes: another one has another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Empty where events do not lie in partitions.
    version: String,
    open: Option<i32>,
    /// The partition that was the one table of all events, while it is there.
    pub former: Option<i32>,
    /// The newest first.
    pub closed: Vec<Closed>,
    /// The groups of closed partitions that share a filter, the newest first. No partition is in two of them.
    groups: Vec<Group>,
    /// The first `seq` of an event that was not removed.
    first_seq: i64,
}

/// A partition that never changes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Its number.
    pub number: i32,
    /// The filter of its keys, and how many they are; `None` while it has none.
    pub filter: Option<(FilterName, u64)>,
}

/// Closed partitions that share a filter, or one that is in no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The group that they are in.
    pub group: Option<&'a Group>,
    /// The partitions, the newest first.
    pub closed: &'a [Closed],
}

/// A partition, as the list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub number: i32,
    /// Whether it is the one that is written to.
    pub is_open: bool,
    /// Whether it was the one table of all events.
    pub was_events: bool,
    /// The id of its filter, and how many keys that has; `None` while it has none.
    pub filter: Option<(String, u64)>,
}

impl Layout {
    /// Returns the layout in which all events are in one table.
    pub fn of_one_table() -> Self {
        Self {
            version: String::new(),
            open: None,
            former: None,
            closed: Vec::new(),
            groups: Vec::new(),
            first_seq: i64::MIN,
        }
    }

    /// Returns the layout with these partitions and groups, each with the newest first.
    ///
    /// # Errors
    /// If no partition is open.
    pub fn of(version: String, first_seq: i64, listed: Vec<Listed>, groups: Vec<Group>) -> Result<Self, StoreError> {
        let mut layout = Self { version, first_seq, groups, ..Self::of_one_table() };
        for Listed { number, is_open, was_events, filter } in listed {
            if is_open {
                layout.open = Some(number);
                continue;
            }
            if was_events {
                layout.former = Some(number);
            }
            let filter = filter.map(|(id, keys)| (FilterName { partition: number, id }, keys));
            layout.closed.push(Closed { number, filter });
        }
        match layout.open {
            Some(_) => Ok(layout),
            None => Err(StoreError::Failed("there is no open partition of events".into())),
        }
    }

    /// Returns the random version of the list: another list has another one.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the open partition; `None` where events do not lie in partitions.
    pub fn open(&self) -> Option<i32> {
        self.open
    }

    /// Returns the closed partitions, the newest first: each group with its partitions, and each other partition alone.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut rest = &*self.closed;
        std::iter::from_fn(move || {
            let newest = rest.first()?.number;
            let group = self.groups.iter().find(|group| group.has(newest));
            let length = group.map_or(1, |group| rest.iter().take_while(|closed| group.has(closed.number)).count());
            let (closed, others) = rest.split_at_checked(length)?;
            rest = others;
            Some(Run { group, closed })
        })
    }

    /// Returns the first `seq` of an event that was not removed.
    pub fn first_seq(&self) -> i64 {
        self.first_seq
    }

    /// Returns whether the events of a batch belong into the open partition.
    pub fn has_room_for(&self, batch: i64) -> bool {
        self.open.is_none_or(|open| batch >> BATCH_BITS == i64::from(open))
    }
}

/// What a layout is read from.
#[async_trait]
pub trait LayoutSource: Send {
    /// Reads the list of partitions together with its version, so that they belong to each other.
    async fn read_layout(&mut self) -> Result<Layout, StoreError>;
}

/// The layout that a process has read last. Clones of it are shared by its transactions.
#[derive(Debug)]
pub struct Layouts(RwLock<Arc<Layout>>);

impl Default for Layouts {
    fn default() -> Self {
        Self(RwLock::new(Arc::new(Layout::of_one_table())))
    }
}

impl Layouts {
    /// Returns the layout with a version that the caller's transaction has read: from memory, or within this transaction.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn with_version(
        &self,
        source: &mut (impl LayoutSource + ?Sized),
        version: Option<&str>,
    ) -> Result<Arc<Layout>, StoreError> {
        let cached = self.cached();
        if cached.version == version.unwrap_or_default() {
            return Ok(cached);
        }
        self.read(source).await
    }

    /// Reads the present layout.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self, source: &mut (impl LayoutSource + ?Sized)) -> Result<Arc<Layout>, StoreError> {
        let layout = Arc::new(source.read_layout().await?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&layout);
        Ok(layout)
    }

    /// Returns the layout that was read last.
    pub fn cached(&self) -> Arc<Layout> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
impl Layout {
    /// Returns a layout with these closed partitions, whose filters have so many keys, and these groups of them: the
    /// first and last one, and the level.
    pub fn of_closed(keys: &[(i32, u64)], groups: &[(i32, i32, u32)]) -> Self {
        let name = |partition: i32, id: String| FilterName { partition, id };
        let closed =
            |&(number, keys): &(i32, u64)| Closed { number, filter: Some((name(number, number.to_string()), keys)) };
        let group = |&(first, last, level): &(i32, i32, u32)| {
            let keys = keys.iter().filter(|(number, _)| (first..=last).contains(number)).map(|(_, keys)| keys).sum();
            Group { first, last, level, keys, filter: name(first, format!("{first} to {last}")) }
        };
        Self {
            version: "a version".to_owned(),
            open: Some(i32::MAX),
            closed: keys.iter().map(closed).collect(),
            groups: groups.iter().map(group).collect(),
            ..Self::of_one_table()
        }
    }
}
