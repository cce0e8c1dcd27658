//! The maintenance of partitions, every few seconds in each replica.

use super::build::build_next;
use super::choose::choose;
use super::filters::Filters;
use super::groups::build_group;
use super::layout::{BATCH_BITS, Layout, Layouts, batches_before};
use super::limits::Limits;
use super::tables::PartitionTables;
use crate::{DuePartition, PartitionFigures, StoreError};

/// Closes the open partition if it has reached a limit, loads the filters of the closed ones, and builds those that are
/// missing. Returns `None` while events do not lie in partitions.
///
/// # Errors
/// Those of the database. The next call goes on.
pub async fn maintain(
    tables: &mut (impl PartitionTables + ?Sized),
    layouts: &Layouts,
    filters: &Filters,
    limits: Limits,
) -> Result<Option<PartitionFigures>, StoreError> {
    let mut layout = layouts.read(tables).await?;
    let changed = match layout.open() {
        Some(_) => close_if_due(tables, limits).await?,
        None => tables.switch_if_due().await?,
    };
    if changed {
        layout = layouts.read(tables).await?;
    }
    // Those that there are first: building one can take long, and can fail.
    let damaged = filters.load(tables, choose(&layout, filters.max_bytes())).await?;
    if !damaged.is_empty() {
        for filter in &damaged {
            tables.forget_filter(filter).await?;
        }
        layout = layouts.read(tables).await?;
    }
    // Before its filter is built, which reads all its keys.
    tables.vacuum_next().await?;
    while build_next(tables, &layout).await? {
        layout = layouts.read(tables).await?;
        filters.load(tables, choose(&layout, filters.max_bytes())).await?;
    }
    while build_group(tables, &layout).await? {
        layout = layouts.read(tables).await?;
        filters.load(tables, choose(&layout, filters.max_bytes())).await?;
    }
    Ok(figures(&layout, filters))
}

/// Returns the open partition, if it should have been closed, and the partitions as they are. Changes nothing.
///
/// # Errors
/// Those of the database.
pub async fn look(
    tables: &mut (impl PartitionTables + ?Sized),
    filters: &Filters,
    limits: Limits,
) -> Result<(Option<DuePartition>, Option<PartitionFigures>), StoreError> {
    let layout = tables.read_layout().await?;
    let open = if layout.open().is_some() { tables.open_partition().await? } else { None };
    Ok((open.and_then(|open| limits.due(&open)), figures(&layout, filters)))
}

fn figures(layout: &Layout, filters: &Filters) -> Option<PartitionFigures> {
    let closed = layout.closed.iter().map(|closed| closed.filter.as_ref().map(|(name, _)| name));
    layout.open().map(|_| filters.figures(closed))
}

/// Closes the open partition if it has reached a limit. Returns whether it was closed. If several replicas call this at
/// once, one of them does it.
async fn close_if_due(tables: &mut (impl PartitionTables + ?Sized), limits: Limits) -> Result<bool, StoreError> {
    let Some(open) = tables.open_partition().await?.filter(|open| limits.are_reached_by(open)) else {
        return Ok(false);
    };
    let next = open.number.checked_add(1).filter(|next| batches_before(*next) >> BATCH_BITS == i64::from(*next));
    match next {
        Some(next) => tables.close(open.number, next).await,
        None => Err(StoreError::Failed("the numbers of the partitions of events are used up".into())),
    }
}
