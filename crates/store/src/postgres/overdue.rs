//! What maintenance should have done by now.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::arrival_marks::age_of;
use super::connections::Lease;
use super::event_partitions::{Tables, remove};
use super::insert::ORDINAL_BITS;
use crate::overdue::beyond;
use crate::partitions::{self, Filters, Layout, LayoutSource, Limits, batches_before};
use crate::{Overdue, StoreError};

/// Returns what maintenance should have done by now. `limits` has the retention.
pub(super) async fn read(tables: &mut Tables<'_>, filters: &Filters, limits: Limits) -> Result<Overdue, StoreError> {
    let (partition, figures) = partitions::look(tables, filters, limits).await?;
    let (mut events, mut removed) = (None, None);
    if let Some(retention) = limits.retention {
        let layout = tables.lease.read_layout().await?;
        events = Some(of_events(tables.lease, &layout, retention).await?);
        if layout.open().is_some() {
            removed = Some(of_tables(tables.lease, retention).await?);
        }
    }
    Ok(Overdue { events, tables: removed, partition, figures })
}

/// Returns for how long the oldest events have been there that should have been removed. What goes as a whole is as old as its
/// youngest event.
async fn of_events(lease: &mut Lease, layout: &Layout, retention: Duration) -> Result<Duration, StoreError> {
    let mut batch = None;
    if let Some(table) = layout.one_table() {
        let select = AssertSqlSafe(format!("SELECT min(seq) >> $1 FROM {table}"));
        (batch,) = lease.fetch_one::<(Option<i64>,)>(sqlx::query_as(select).bind(ORDINAL_BITS as i32)).await?;
    }
    if batch.is_none() && layout.open().is_some() {
        let oldest = "SELECT last_batch FROM event_partitions WHERE closed_at IS NOT NULL ORDER BY number LIMIT 1";
        batch = lease.fetch_optional::<(i64,)>(sqlx::query_as(oldest)).await?.map(|(batch,)| batch);
    }
    overdue(lease, batch, retention).await
}

/// Returns for how long the oldest table of a removed partition has been there that should have been dropped.
async fn of_tables(lease: &mut Lease, retention: Duration) -> Result<Duration, StoreError> {
    // The first mark after it was closed has a number of the next one.
    let end = remove::oldest_removed(lease).await?.map(|number| batches_before(number.saturating_add(1)));
    overdue(lease, end, retention).await
}

async fn overdue(lease: &mut Lease, batch: Option<i64>, retention: Duration) -> Result<Duration, StoreError> {
    match batch {
        Some(batch) => Ok(beyond(age_of(lease, batch).await?, retention)),
        None => Ok(Duration::ZERO),
    }
}
