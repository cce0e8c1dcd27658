//! Adds what batches have written to the windows.

use std::collections::{BTreeSet, HashMap, HashSet};

use sluice_meter::Damaged;
use sluice_meter::fold::{Additions, MAX_WINDOWS, Skipped, WindowKey};

use super::tables::MeterTables;
use crate::StoreError;

/// The rows of batches that are added up in one transaction, and their size.
const MAX_ROWS: u32 = 500;
const MAX_BYTES: u64 = 16 << 20;
/// The windows that are changed by one statement, and the size of what is stored of them.
const MAX_WINDOWS_AT_ONCE: usize = 1_000;
const MAX_WINDOW_BYTES: u64 = 8 << 20;

/// Adds up a chunk, in one transaction. Returns whether there may be more to add up.
pub(super) async fn fold(tables: &mut dyn MeterTables) -> Result<bool, StoreError> {
    if !tables.begin(false).await? {
        return Ok(false);
    }
    if add_up(tables).await? {
        tables.commit().await?;
        return Ok(true);
    }
    tables.rollback().await?;
    Ok(false)
}

/// Adds up a chunk, in a transaction that was begun. Returns false if there was nothing to add up.
pub(super) async fn add_up(tables: &mut dyn MeterTables) -> Result<bool, StoreError> {
    let batches = tables.batches(MAX_ROWS, MAX_BYTES).await?;
    if batches.is_empty() {
        return Ok(false);
    }
    let meters: HashMap<i64, u64> = tables.meters().await?.iter().map(|meter| (meter.id, meter.windows)).collect();
    let ids: HashSet<i64> = meters.keys().copied().collect();
    let mut additions = Additions::default();
    for (_, row) in &batches {
        additions.add_batch(row, &ids).map_err(damaged)?;
    }
    let stored = tables.sizes(&additions.keys()).await?.into_keys().collect();
    let room = |meter| MAX_WINDOWS.saturating_sub(meters.get(&meter).copied().unwrap_or(MAX_WINDOWS));
    let new_windows = additions.bound(&stored, room).map_err(damaged)?;
    additions.add_longer().map_err(damaged)?;
    let sizes = tables.sizes(&additions.keys()).await?;
    for keys in chunks(&additions.keys(), &sizes) {
        let contents = tables.contents(keys).await?;
        let windows = additions.take_with(keys, &contents).map_err(damaged)?;
        tables.put_windows(windows).await?;
    }
    let changed: BTreeSet<i64> = new_windows.keys().chain(additions.skipped().keys()).copied().collect();
    for meter in changed {
        let new = new_windows.get(&meter).copied().unwrap_or_default();
        let nothing = Skipped::default();
        let skipped = additions.skipped().get(&meter).unwrap_or(&nothing);
        tables.add_to_meter(meter, new.cast_signed(), skipped).await?;
    }
    let ids: Vec<i64> = batches.iter().map(|(id, _)| *id).collect();
    tables.remove_batches(&ids).await?;
    Ok(true)
}

/// Divides windows so that each part has a bounded number of them and, as far as each of them allows, of bytes.
fn chunks<'k>(keys: &'k [WindowKey], sizes: &HashMap<WindowKey, u64>) -> Vec<&'k [WindowKey]> {
    let (mut chunks, mut rest) = (Vec::new(), keys);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(MAX_WINDOWS_AT_ONCE).take_while(|key| {
            bytes += sizes.get(key).copied().unwrap_or_default();
            bytes <= MAX_WINDOW_BYTES
        });
        let (chunk, others) = rest.split_at(fits.count().max(1));
        chunks.push(chunk);
        rest = others;
    }
    chunks
}

/// Returns the error of content that cannot be read.
pub(super) fn damaged(error: Damaged) -> StoreError {
    StoreError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use sluice_meter::fold::Length;

    use super::*;

    #[test]
    fn every_window_is_in_one_chunk_and_no_chunk_is_too_large() {
        let key = |start| WindowKey { meter: 1, length: Length::Minute, start };
        let keys: Vec<_> = (0..2_500).map(key).collect();
        let sizes: HashMap<_, _> = (0..5).map(|start| (key(start), 5 << 20)).collect();
        let lengths: Vec<_> = chunks(&keys, &sizes).into_iter().map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 1, 1, 1, 1_000, 1_000, 496]);
        assert_eq!(chunks(&keys, &sizes).concat(), keys);
    }
}
