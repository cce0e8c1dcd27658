//! What the maintenance of partitions does to the tables of a schema.

use async_trait::async_trait;
use sluice_event::EventKey;

use super::super::connections::Lease;
use super::super::partition_steps::PartitionSteps;
use super::super::settings::PayloadType;
use super::{build, close, groups, switch, vacuum};
use crate::StoreError;
use crate::partitions::{
    FilterName, Group, Layout, LayoutSource, NewGroup, OpenPartition, PartitionTables, SegmentSource, Unfinished,
};

/// The tables of a schema, on a connection for maintenance.
pub(crate) struct Tables<'a> {
    pub lease: &'a mut Lease,
    pub schema: &'a str,
    pub steps: &'a PartitionSteps,
    pub payload: PayloadType,
}

#[async_trait]
impl LayoutSource for Tables<'_> {
    async fn read_layout(&mut self) -> Result<Layout, StoreError> {
        self.lease.read_layout().await
    }
}

#[async_trait]
impl SegmentSource for Tables<'_> {
    async fn segment(&mut self, filter: &FilterName, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        build::segment(self.lease, filter, number).await
    }
}

#[async_trait]
impl PartitionTables for Tables<'_> {
    async fn open_partition(&mut self) -> Result<Option<OpenPartition>, StoreError> {
        close::open_partition(self.lease).await
    }

    async fn close(&mut self, partition: i32, next: i32) -> Result<bool, StoreError> {
        close::close(self.lease, self.schema, self.steps, partition, next).await
    }

    async fn switch_if_due(&mut self) -> Result<bool, StoreError> {
        switch::switch_if_due(self.lease, self.schema, self.steps, self.payload).await
    }

    async fn forget_filter(&mut self, filter: &FilterName) -> Result<(), StoreError> {
        build::forget(self.lease, filter).await
    }

    async fn begin_building(&mut self) -> Result<bool, StoreError> {
        build::begin(self.lease, self.schema).await
    }

    async fn end_building(&mut self) -> Result<(), StoreError> {
        build::end(self.lease, self.schema).await
    }

    async fn has_no_filter(&mut self, partition: i32) -> Result<bool, StoreError> {
        build::has_no_filter(self.lease, partition).await
    }

    async fn vacuum_next(&mut self) -> Result<(), StoreError> {
        vacuum::vacuum_next(self.lease, self.schema).await
    }

    async fn remove_unfinished(&mut self) -> Result<(), StoreError> {
        build::remove_unfinished(self.lease).await
    }

    async fn name_filter(&mut self, partition: i32) -> Result<(FilterName, u64), StoreError> {
        build::name_filter(self.lease, partition).await
    }

    async fn keys(
        &mut self,
        partition: i32,
        from: EventKey,
        before: Option<EventKey>,
    ) -> Result<Vec<EventKey>, StoreError> {
        build::keys(self.lease, partition, from, before).await
    }

    async fn insert_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        build::insert_segment(self.lease, filter, number, content).await
    }

    async fn finish_filter(&mut self, filter: &FilterName, keys: u64) -> Result<(), StoreError> {
        build::finish(self.lease, filter, keys).await
    }

    async fn unfinished_group(&mut self) -> Result<Option<Unfinished>, StoreError> {
        groups::unfinished(self.lease).await
    }

    async fn begin_group(&mut self, group: &NewGroup) -> Result<Group, StoreError> {
        groups::begin(self.lease, group).await
    }

    async fn add_group_segment(&mut self, group: &Group, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        groups::add_segment(self.lease, group, number, content).await
    }

    async fn finish_group(&mut self, group: &Group) -> Result<(), StoreError> {
        groups::finish(self.lease, group).await
    }
}
