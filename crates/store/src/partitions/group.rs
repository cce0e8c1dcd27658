//! A group of closed partitions that follow each other and share a filter.
//!
//! Each filter is asked about each new key, so without groups the time for that would grow with the number of partitions.
//! The filters of the partitions stay: they are asked where the group's filter says that it may have the key.

use super::key_filter::FilterName;

/// A group whose filter is complete, or is being built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The oldest of its partitions.
    pub first: i32,
    /// The newest of its partitions.
    pub last: i32,
    /// 1 if it was made of partitions, 2 if it was made of such groups.
    pub level: u32,
    /// Its filter. The number in its name is that of the oldest partition.
    pub filter: FilterName,
    /// How many keys the filter has.
    pub keys: u64,
}

/// A group that is to have a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewGroup {
    /// The oldest of its partitions.
    pub first: i32,
    /// The newest of its partitions.
    pub last: i32,
    /// 1 if it is made of partitions, 2 if it is made of groups.
    pub level: u32,
    /// How many keys its partitions have.
    pub keys: u64,
}

/// A group whose filter is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The group.
    pub group: Group,
    /// How many segments of its filter are stored.
    pub segments: u32,
}

impl Group {
    /// Returns whether a partition belongs to it.
    pub fn has(&self, partition: i32) -> bool {
        (self.first..=self.last).contains(&partition)
    }

    /// Returns whether it is the one that is to have a filter.
    pub fn is_of(&self, NewGroup { first, last, level, keys }: &NewGroup) -> bool {
        (self.first, self.last, self.level, self.keys) == (*first, *last, *level, *keys)
    }
}
