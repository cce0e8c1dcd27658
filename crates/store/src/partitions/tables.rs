//! The statements that the maintenance of partitions consists of.

use async_trait::async_trait;
use sluice_event::EventKey;

use super::filters::SegmentSource;
use super::group::{Group, NewGroup, Unfinished};
use super::key_filter::{FilterName, Segment};
use super::layout::LayoutSource;
use super::limits::OpenPartition;
use crate::StoreError;

/// What maintenance does to the partitions, on one connection. A process may be killed between two of these calls, and
/// others may do the same at the same time.
#[async_trait]
pub trait PartitionTables: LayoutSource + SegmentSource {
    /// Returns the open partition.
    async fn open_partition(&mut self) -> Result<Option<OpenPartition>, StoreError>;

    /// Closes the open partition and opens the one with the next number, in one transaction that no batch runs beside.
    /// Returns false if it was prevented, or if another replica has done it.
    async fn close(&mut self, partition: i32, next: i32) -> Result<bool, StoreError>;

    /// Puts the events into partitions, if it is time. Returns whether it was done.
    async fn switch_if_due(&mut self) -> Result<bool, StoreError>;

    /// Forgets the filter of a partition or a group, so that it is built again.
    async fn forget_filter(&mut self, filter: &FilterName) -> Result<(), StoreError>;

    /// Lets one replica at a time build filters, until its connection is closed or [`PartitionTables::end_building`] is
    /// called. Returns whether it is this one.
    async fn begin_building(&mut self) -> Result<bool, StoreError>;

    /// Ends what [`PartitionTables::begin_building`] began.
    async fn end_building(&mut self) -> Result<(), StoreError>;

    /// Returns whether a partition is listed and has no filter.
    async fn has_no_filter(&mut self, partition: i32) -> Result<bool, StoreError>;

    /// Prepares a closed partition for many look-ups, if there is one that was not prepared yet.
    async fn vacuum_next(&mut self) -> Result<(), StoreError>;

    /// Removes the segments that no filter of a partition or a group has: a process that was killed has left them.
    async fn remove_unfinished(&mut self) -> Result<(), StoreError>;

    /// Returns the number of keys in a partition, and a random name for their filter.
    async fn name_filter(&mut self, partition: i32) -> Result<(FilterName, u64), StoreError>;

    /// Returns the keys of a partition from one on and, if there is one, before another.
    async fn keys(
        &mut self,
        partition: i32,
        from: EventKey,
        before: Option<EventKey>,
    ) -> Result<Vec<EventKey>, StoreError>;

    /// Builds a segment, without keeping other tasks of the process from running.
    async fn build_segment(&mut self, keys: Vec<EventKey>, salt: u64) -> Result<Segment, StoreError> {
        let built = tokio::task::spawn_blocking(move || Segment::build(&keys, salt)).await;
        built.map_err(|error| StoreError::Failed(error.to_string()))?.map_err(StoreError::Failed)
    }

    /// Stores a segment of a filter.
    async fn insert_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) -> Result<(), StoreError>;

    /// Gives a partition its filter, unless it has one or is not there any more.
    async fn finish_filter(&mut self, filter: &FilterName, keys: u64) -> Result<(), StoreError>;

    /// Returns the group whose filter was begun and is not complete, the oldest one if there are several.
    async fn unfinished_group(&mut self) -> Result<Option<Unfinished>, StoreError>;

    /// Begins the filter of a group, and gives it a random name.
    async fn begin_group(&mut self, group: &NewGroup) -> Result<Group, StoreError>;

    /// Stores the next segment of the filter of a group, unless it is stored.
    async fn add_group_segment(&mut self, group: &Group, number: u32, content: Vec<u8>) -> Result<(), StoreError>;

    /// Lists a group whose filter is complete, instead of the smaller ones that have partitions of it.
    async fn finish_group(&mut self, group: &Group) -> Result<(), StoreError>;
}
