//! What keeps storing an event cheap: partitions are closed in time, have filters, and are dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::sync::Mutex;

use super::super::errors::of_statement;
use super::super::readers::Readers;
use super::super::writer::{self, Writer, end};
use super::layout::{Layouts, NEW_VERSION, table};
use super::switch::{is_switched, step};
use super::tables::Tables;
use crate::partitions::{self, Filters, Limits};
use crate::{DuePartition, PartitionFigures, StoreError};

/// The longest that one call copies keys of a file of an older version.
const COPY_TIME: Duration = Duration::from_secs(10);

/// What maintenance of the partitions needs.
pub(crate) struct KeyPartitions<'a> {
    pub writer: &'a Arc<Mutex<Writer>>,
    pub readers: &'a Readers,
    pub layouts: &'a Layouts,
    pub filters: &'a Filters,
}

impl KeyPartitions<'_> {
    /// Closes the open partition if it is due, drops those of removed events, and builds and loads filters.
    pub async fn maintain(&self, limits: Limits) -> Result<Option<PartitionFigures>, StoreError> {
        self.copy(limits).await?;
        while let Some(number) = drop_oldest(&mut *writer::lock(self.writer).await?).await? {
            tracing::info!(partition = number, "a partition of keys was dropped: its events were removed");
        }
        let mut tables = Tables { writer: self.writer, readers: self.readers, layouts: self.layouts };
        // Transactions have the lists of [`Layouts`], which have the statements too.
        partitions::maintain(&mut tables, &partitions::Layouts::default(), self.filters, limits).await
    }

    /// Returns the open partition, if it should have been closed, and the partitions as they are.
    pub async fn look(&self, limits: Limits) -> Result<(Option<DuePartition>, Option<PartitionFigures>), StoreError> {
        let mut tables = Tables { writer: self.writer, readers: self.readers, layouts: self.layouts };
        partitions::look(&mut tables, self.filters, limits).await
    }

    /// Copies keys of a file of an older version, if there are any that are not copied.
    async fn copy(&self, limits: Limits) -> Result<(), StoreError> {
        let is_switched = is_switched(&mut *self.readers.lease().await?).await.map_err(of_statement)?;
        let until = Instant::now() + COPY_TIME;
        let mut more = !is_switched;
        while more && Instant::now() < until {
            more = step(&mut *writer::lock(self.writer).await?, limits).await?;
        }
        Ok(())
    }
}

/// Drops the oldest closed partition if the events of all its keys were removed. Returns its number.
async fn drop_oldest(writer: &mut Writer) -> Result<Option<i32>, StoreError> {
    let last_seq = writer.begin().await?;
    let dropped = drop_if_due(writer.current().await?, last_seq).await.map_err(of_statement);
    end(writer, &dropped).await?;
    dropped
}

async fn drop_if_due(connection: &mut SqliteConnection, last_seq: i64) -> Result<Option<i32>, sqlx::Error> {
    let oldest = sqlx::query_as::<_, (i32, Option<String>)>(
        "DELETE FROM key_partitions WHERE number = ( \
             SELECT number FROM key_partitions \
             WHERE last_seq < coalesce((SELECT min(seq) FROM events), ? + 1) ORDER BY number LIMIT 1) \
         RETURNING number, filter",
    );
    let oldest = oldest.bind(last_seq).fetch_optional(&mut *connection).await?;
    let Some((number, filter)) = oldest else { return Ok(None) };
    let group = sqlx::query_scalar("DELETE FROM key_filter_groups WHERE last_partition <= ? RETURNING filter");
    let of_groups: Vec<String> = group.bind(number).fetch_all(&mut *connection).await?;
    for filter in filter.into_iter().chain(of_groups) {
        sqlx::query("DELETE FROM key_filters WHERE filter = ?").bind(filter).execute(&mut *connection).await?;
    }
    let sql = format!("DROP TABLE {}; {NEW_VERSION}", table(number));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(Some(number))
}
