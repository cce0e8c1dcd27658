//! Builds the filters of closed partitions.

use super::key_filter::{first_key, segment_bits};
use super::layout::{Closed, Layout};
use super::tables::PartitionTables;
use crate::StoreError;

/// Builds the filter of the newest closed partition that has none. Returns false if there is no
/// such partition, or another replica is building one.
pub(super) async fn build_next(
    tables: &mut (impl PartitionTables + ?Sized),
    layout: &Layout,
) -> Result<bool, StoreError> {
    let Some(Closed { number, .. }) = layout.closed.iter().find(|closed| closed.filter.is_none()) else {
        return Ok(false);
    };
    // If building fails, the connection is closed, and another replica may build.
    if !tables.begin_building().await? {
        return Ok(false);
    }
    // Another replica may have built it since the layout was read.
    if tables.has_no_filter(*number).await? {
        build(tables, *number).await?;
    }
    tables.end_building().await?;
    Ok(true)
}

/// Builds a filter and stores it segment by segment, so that one of many keys needs no more memory than one of few.
async fn build(tables: &mut (impl PartitionTables + ?Sized), partition: i32) -> Result<(), StoreError> {
    tables.remove_unfinished().await?;
    let (name, count) = tables.name_filter(partition).await?;
    let bits = segment_bits(count);
    for segment in 0..1 << bits {
        let before = (segment + 1 < 1 << bits).then(|| first_key(segment + 1, bits));
        let keys = tables.keys(partition, first_key(segment, bits), before).await?;
        let built = tables.build_segment(keys, name.salt(segment)).await?;
        tables.insert_segment(&name, segment, built.encode(&name, segment, bits)).await?;
    }
    tables.finish_filter(&name, count).await?;
    tracing::info!(partition, keys = count, "the filter of a partition of events was built");
    Ok(())
}
