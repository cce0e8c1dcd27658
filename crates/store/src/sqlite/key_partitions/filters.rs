//! The filters that a process has in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::SqliteConnection;

use super::super::errors::of_statement;
use super::layout::{Closed, Layout};
use crate::partitions::key_filter::{FilterName, KeyFilter, Segment, Width, segment_bits};
use crate::{PartitionFigures, StoreError};

type ById = HashMap<String, Arc<KeyFilter>>;

/// The filters of closed partitions. They take no more memory than they may.
#[derive(Debug)]
pub(crate) struct Filters {
    max_bytes: u64,
    by_id: RwLock<Arc<ById>>,
    usage: Arc<Usage>,
}

/// How many keys were looked up in closed partitions, and how many of them were there.
#[derive(Debug, Default)]
struct Usage {
    looked_up: AtomicU64,
    found: AtomicU64,
}

/// Filters as one transaction uses them.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    by_id: Arc<ById>,
    usage: Arc<Usage>,
}

impl Loaded {
    /// Returns the filter of a closed partition, if it is in memory.
    pub fn of(&self, closed: &Closed) -> Option<&KeyFilter> {
        closed.filter.as_ref().and_then(|name| self.by_id.get(&name.id)).map(|filter| &**filter)
    }

    /// Counts keys that were looked up in closed partitions.
    pub fn count(&self, looked_up: usize, found: usize) {
        self.usage.looked_up.fetch_add(looked_up as u64, Ordering::Relaxed);
        self.usage.found.fetch_add(found as u64, Ordering::Relaxed);
    }
}

impl Filters {
    /// Returns no filters, which will take so many bytes at most.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, by_id: RwLock::default(), usage: Arc::default() }
    }

    /// Returns the filters that are in memory.
    pub fn loaded(&self) -> Loaded {
        let by_id = Arc::clone(&self.by_id.read().unwrap_or_else(PoisonError::into_inner));
        Loaded { by_id, usage: Arc::clone(&self.usage) }
    }

    /// Returns what the filters are good for where keys lie like this.
    pub fn figures(&self, layout: &Layout) -> PartitionFigures {
        let loaded = self.loaded();
        PartitionFigures {
            partitions: layout.closed.len() as u64 + 1,
            without_filter: layout.closed.iter().filter(|closed| loaded.of(closed).is_none()).count() as u64,
            filter_bytes: loaded.by_id.values().map(|filter| filter.bytes()).sum(),
            keys_looked_up: self.usage.looked_up.load(Ordering::Relaxed),
            keys_found: self.usage.found.load(Ordering::Relaxed),
        }
    }

    /// Loads the filters of this layout that are not in memory yet, and drops those of others. Returns the filters that
    /// are damaged or missing.
    pub async fn load(&self, reader: &mut SqliteConnection, layout: &Layout) -> Result<Vec<FilterName>, StoreError> {
        let before = self.loaded().by_id;
        let (mut loaded, mut damaged) = (HashMap::new(), Vec::new());
        for (name, keys, width) in choose(layout, self.max_bytes) {
            let filter = match before.get(&name.id) {
                Some(filter) if filter.width() == width => Some(Arc::clone(filter)),
                Some(filter) if width == Width::Narrow => Some(Arc::new(filter.narrowed())),
                _ => read(reader, name, keys, width).await?.map(Arc::new),
            };
            match filter {
                Some(filter) => _ = loaded.insert(name.id.clone(), filter),
                None => damaged.push(name.clone()),
            }
        }
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(damaged)
    }
}

/// Returns the filters to have in memory, the newest first: all of them, with 16 bits for each key, or with 8 where
/// they would take too much memory, and then as many as there is room for.
fn choose(layout: &Layout, max_bytes: u64) -> Vec<(&FilterName, u64, Width)> {
    let filters = || layout.closed.iter().filter_map(|closed| Some((closed.filter.as_ref()?, closed.keys)));
    let wide: u64 = filters().map(|(_, keys)| Width::Wide.bytes(keys)).sum();
    let width = if wide <= max_bytes { Width::Wide } else { Width::Narrow };
    let mut bytes = 0;
    let fits = filters().take_while(|(_, keys)| {
        bytes += width.bytes(*keys);
        bytes <= max_bytes
    });
    fits.map(|(name, keys)| (name, keys, width)).collect()
}

/// Reads a filter; `None`, and a line in the log, if it is damaged or missing.
async fn read(
    reader: &mut SqliteConnection,
    name: &FilterName,
    keys: u64,
    width: Width,
) -> Result<Option<KeyFilter>, StoreError> {
    let bits = segment_bits(keys);
    let mut segments = Vec::with_capacity(1 << bits);
    for number in 0..1 << bits {
        let select =
            sqlx::query_scalar::<_, Vec<u8>>("SELECT content FROM key_filters WHERE filter = ? AND segment = ?");
        let content = select.bind(&name.id).bind(number).fetch_optional(&mut *reader).await.map_err(of_statement)?;
        let reason = match content.map(|bytes| Segment::decode(&bytes, name, number, bits)) {
            Some(Ok(segment)) => {
                segments.push(segment);
                continue;
            }
            Some(Err(reason)) => reason.to_string(),
            None => "it is missing".to_owned(),
        };
        tracing::warn!(
            partition = name.partition,
            segment = number,
            reason,
            "a part of a filter of events is damaged: all keys are looked up until it is built again"
        );
        return Ok(None);
    }
    Ok(Some(KeyFilter::new(segments, width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(keys: &[u64], max_bytes: u64) -> Vec<(i32, Width)> {
        let closed = |(number, keys): (usize, &u64)| {
            let name = FilterName { partition: number as i32, id: number.to_string() };
            Closed { number: number as i32, last_seq: 0, keys: *keys, filter: Some(name) }
        };
        let layout = Layout::of_closed(keys.iter().enumerate().map(closed).collect());
        choose(&layout, max_bytes).into_iter().map(|(name, _, width)| (name.partition, width)).collect()
    }

    #[test]
    fn filters_are_narrowed_before_any_is_left_out_and_the_oldest_is_left_out_first() {
        use Width::{Narrow, Wide};
        let keys = [800, 800, 800];
        assert_eq!(chosen(&keys, 5_400), [(0, Wide), (1, Wide), (2, Wide)]);
        assert_eq!(chosen(&keys, 5_399), [(0, Narrow), (1, Narrow), (2, Narrow)]);
        assert_eq!(chosen(&keys, 2_699), [(0, Narrow), (1, Narrow)]);
        assert_eq!(chosen(&keys, 0), []);
    }
}
