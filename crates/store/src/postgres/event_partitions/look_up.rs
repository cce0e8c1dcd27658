//! Looking keys up in the partitions that may have them.

use std::collections::HashMap;

use sluice_event::{EventKey, PayloadHash};
use sqlx::AssertSqlSafe;

use super::super::connections::Lease;
use super::layout::table;
use crate::StoreError;
use crate::partitions::{Layout, Loaded, Place, anywhere};

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub key: EventKey,
    pub payload_hash: PayloadHash,
    /// The closed partition that has it; `None` is the open one.
    pub partition: Option<i32>,
}

/// Returns the rows with these keys, in one statement that names no partition without a key.
pub(crate) async fn find(
    lease: &mut Lease,
    layout: &Layout,
    loaded: &Loaded,
    places: Vec<Place>,
) -> Result<Vec<Found>, StoreError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let in_closed = places.iter().filter(|(number, _)| number.is_some()).map(|(_, keys)| keys.len()).sum();
    let part = |(at, (number, _)): (usize, &Place)| {
        let table = number.map_or_else(|| layout.open_table(), table);
        format!("SELECT key, payload_hash, {at} FROM {table} WHERE key = ANY (${})", at + 1)
    };
    let text = places.iter().enumerate().map(part).collect::<Vec<_>>().join(" UNION ALL ");
    let numbers: Vec<_> = places.iter().map(|(number, _)| *number).collect();
    // Which partitions it names is different each time, but where it is the open one alone.
    let is_repeated = matches!(&*places, [(None, _)]);
    let mut select = sqlx::query_as(AssertSqlSafe(text)).persistent(is_repeated);
    for (_, keys) in places {
        select = select.bind(keys);
    }
    let rows: Vec<(EventKey, PayloadHash, i32)> = lease.fetch_all(select).await?;
    let found = |(key, payload_hash, at): (EventKey, PayloadHash, i32)| {
        let partition = usize::try_from(at).ok().and_then(|at| numbers.get(at).copied()).flatten();
        Found { key, payload_hash, partition }
    };
    let found: Vec<_> = rows.into_iter().map(found).collect();
    loaded.count(in_closed, found.iter().filter(|found| found.partition.is_some()).count());
    Ok(found)
}

/// Returns the rows with these keys, wherever they are stored.
pub(crate) async fn find_anywhere(
    lease: &mut Lease,
    layout: &Layout,
    loaded: &Loaded,
    keys: Vec<EventKey>,
) -> Result<HashMap<EventKey, Found>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let found = find(lease, layout, loaded, anywhere(layout, loaded, keys)).await?;
    Ok(found.into_iter().map(|found| (found.key, found)).collect())
}
