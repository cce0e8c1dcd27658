//! What the maintenance of partitions does to the tables of a file.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_event::EventKey;
use sqlx::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::super::errors::of_statement;
use super::super::readers::{Reader, Readers};
use super::super::writer::{self, Writer, end};
use super::layout::Layouts;
use super::{build, close, groups};
use crate::StoreError;
use crate::partitions::{
    FilterName, Group, Layout, LayoutSource, NewGroup, OpenPartition, PartitionTables, SegmentSource, Unfinished,
};

/// The tables of a file. What never changes again is read beside the transactions that write.
pub(crate) struct Tables<'a> {
    pub writer: &'a Arc<Mutex<Writer>>,
    pub readers: &'a Readers,
    pub layouts: &'a Layouts,
}

impl Tables<'_> {
    async fn reader(&self) -> Result<Reader, StoreError> {
        self.readers.lease().await
    }

    /// Begins a transaction that writes.
    async fn begin(&self) -> Result<OwnedMutexGuard<Writer>, StoreError> {
        let mut writer = writer::lock(self.writer).await?;
        writer.begin().await?;
        Ok(writer)
    }
}

/// Ends a transaction by what its statements have returned.
async fn ended<T>(mut writer: OwnedMutexGuard<Writer>, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    let done = done.map_err(of_statement);
    end(&mut writer, &done).await?;
    done
}

#[async_trait]
impl LayoutSource for Tables<'_> {
    async fn read_layout(&mut self) -> Result<Layout, StoreError> {
        let mut reader = self.reader().await?;
        // One snapshot, so that the list belongs to the version.
        let mut snapshot = reader.begin().await.map_err(of_statement)?;
        let layout = self.layouts.of(&mut snapshot).await;
        snapshot.rollback().await.map_err(of_statement)?;
        Ok(layout?.0.list.clone())
    }
}

#[async_trait]
impl SegmentSource for Tables<'_> {
    async fn segment(&mut self, filter: &FilterName, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        build::segment(&mut *self.reader().await?, filter, number).await.map_err(of_statement)
    }
}

#[async_trait]
impl PartitionTables for Tables<'_> {
    async fn open_partition(&mut self) -> Result<Option<OpenPartition>, StoreError> {
        close::open_partition(&mut *self.reader().await?).await.map_err(of_statement)
    }

    async fn close(&mut self, partition: i32, _next: i32) -> Result<bool, StoreError> {
        let mut writer = writer::lock(self.writer).await?;
        let last_seq = writer.begin().await?;
        let closed = close::close(writer.current().await?, partition, last_seq).await;
        ended(writer, closed).await
    }

    /// Keys of an older version's file are copied before ([`super::switch`]).
    async fn switch_if_due(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn forget_filter(&mut self, filter: &FilterName) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let forgotten = build::forget(writer.current().await?, filter).await;
        ended(writer, forgotten).await
    }

    /// Another process that has the file open may build the same filter at the same time. Then each is complete, or is
    /// found not to be and built again.
    async fn begin_building(&mut self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn end_building(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn has_no_filter(&mut self, partition: i32) -> Result<bool, StoreError> {
        build::has_no_filter(&mut *self.reader().await?, partition).await.map_err(of_statement)
    }

    /// Nothing in a table of keys is ever deleted, and SQLite has one version of each row.
    async fn vacuum_next(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn remove_unfinished(&mut self) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let removed = build::remove_unfinished(writer.current().await?).await;
        ended(writer, removed).await
    }

    async fn name_filter(&mut self, partition: i32) -> Result<(FilterName, u64), StoreError> {
        build::name_filter(&mut *self.reader().await?, partition).await.map_err(of_statement)
    }

    async fn keys(
        &mut self,
        partition: i32,
        from: EventKey,
        before: Option<EventKey>,
    ) -> Result<Vec<EventKey>, StoreError> {
        build::keys(&mut *self.reader().await?, partition, from, before).await.map_err(of_statement)
    }

    async fn insert_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let inserted = build::insert_segment(writer.current().await?, filter, number, content).await;
        ended(writer, inserted).await
    }

    async fn finish_filter(&mut self, filter: &FilterName, _keys: u64) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let finished = build::finish(writer.current().await?, filter).await;
        ended(writer, finished).await
    }

    async fn unfinished_group(&mut self) -> Result<Option<Unfinished>, StoreError> {
        groups::unfinished(&mut *self.reader().await?).await.map_err(of_statement)
    }

    async fn begin_group(&mut self, group: &NewGroup) -> Result<Group, StoreError> {
        let mut writer = self.begin().await?;
        let begun = groups::begin(writer.current().await?, group).await;
        ended(writer, begun).await
    }

    async fn add_group_segment(&mut self, group: &Group, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let added = groups::add_segment(writer.current().await?, &group.filter, number, content).await;
        ended(writer, added).await
    }

    async fn finish_group(&mut self, group: &Group) -> Result<(), StoreError> {
        let mut writer = self.begin().await?;
        let finished = groups::finish(writer.current().await?, group).await;
        ended(writer, finished).await
    }
}
