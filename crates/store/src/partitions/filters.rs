//! The filters that a process has in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::group::Group;
use super::key_filter::{FilterName, KeyFilter, Segment, Width, segment_bits};
use super::layout::{Closed, Layout, Run};
use super::tables::PartitionTables;
use crate::{PartitionFigures, StoreError};

type ById = HashMap<String, Arc<KeyFilter>>;

/// The filters of closed partitions, and of groups of them. They take no more memory than they may.
#[derive(Debug)]
pub struct Filters {
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
pub struct Loaded {
    by_id: Arc<ById>,
    usage: Arc<Usage>,
}

impl Loaded {
    /// Returns the filter of a closed partition, if it is in memory.
    pub fn of(&self, closed: &Closed) -> Option<&KeyFilter> {
        closed.filter.as_ref().and_then(|(name, _)| self.by_id.get(&name.id)).map(|filter| &**filter)
    }

    /// Returns the filter of a group of closed partitions, if it is in memory.
    pub fn of_group(&self, group: &Group) -> Option<&KeyFilter> {
        self.by_id.get(&group.filter.id).map(|filter| &**filter)
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

    /// Returns what the filters are good for where events lie like this.
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

    /// Loads the filters of this layout that are not in memory yet, and drops those of others. Returns the filters
    /// that are damaged or missing.
    ///
    /// # Errors
    /// If the store fails. Those that were loaded before are of use.
    pub async fn load(
        &self,
        tables: &mut (impl PartitionTables + ?Sized),
        layout: &Layout,
    ) -> Result<Vec<FilterName>, StoreError> {
        let wanted = choose(layout, self.max_bytes);
        let before = self.loaded().by_id;
        if before.len() == wanted.len()
            && wanted.iter().all(|(name, _, width)| before.get(&name.id).is_some_and(|f| f.width() == *width))
        {
            return Ok(Vec::new());
        }
        let (mut loaded, mut damaged) = (HashMap::new(), Vec::new());
        for (name, keys, width) in wanted {
            let filter = match before.get(&name.id) {
                Some(filter) if filter.width() == width => Some(Arc::clone(filter)),
                Some(filter) if width == Width::Narrow => Some(Arc::new(filter.narrowed())),
                _ => read(tables, name, keys, width).await?.map(Arc::new),
            };
            match filter {
                Some(filter) => _ = loaded.insert(name.id.clone(), filter),
                None => damaged.push(name.clone()),
            }
            // Each one is of use at once: the first load of many takes seconds.
            let so_far = before.iter().chain(&loaded).map(|(id, filter)| (id.clone(), Arc::clone(filter))).collect();
            self.set(so_far);
        }
        self.set(loaded);
        Ok(damaged)
    }

    fn set(&self, loaded: ById) {
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }
}

/// A filter to have in memory, and how many keys it has.
type Wanted<'a> = (&'a FilterName, u64, Width);

/// Returns the filters to have in memory.
///
/// A partition in a group has 8 bits for each key, and its group has 8 more; any other partition has 16. So a key is taken
/// for one of a partition by mistake as rarely in a group as outside. Where that needs too much memory, each partition
/// has 8 bits, the newest first, as many as there is room for, and groups have the room that is left. Then old
/// duplicates are still looked up in the partition that has them alone.
fn choose(layout: &Layout, max_bytes: u64) -> Vec<Wanted<'_>> {
    let all: Vec<_> = of_partitions(layout, Width::Wide).chain(of_groups(layout)).collect();
    if all.iter().map(bytes).sum::<u64>() <= max_bytes {
        return all;
    }
    let mut room = max_bytes;
    let mut fits = |wanted: &Wanted<'_>| match room.checked_sub(bytes(wanted)) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    let mut chosen: Vec<_> = of_partitions(layout, Width::Narrow).take_while(&mut fits).collect();
    chosen.extend(of_groups(layout).take_while(&mut fits));
    chosen
}

/// Returns the filters of closed partitions, the newest first. Those in no group have this width.
fn of_partitions(layout: &Layout, alone: Width) -> impl Iterator<Item = Wanted<'_>> {
    layout.runs().flat_map(move |Run { group, closed }| {
        let width = if group.is_some() { Width::Narrow } else { alone };
        closed.iter().filter_map(move |closed| closed.filter.as_ref().map(|(name, keys)| (name, *keys, width)))
    })
}

/// Returns the filters of the groups, the newest first.
fn of_groups(layout: &Layout) -> impl Iterator<Item = Wanted<'_>> {
    layout.runs().filter_map(|Run { group, .. }| group.map(|group| (&group.filter, group.keys, Width::Narrow)))
}

fn bytes((_, keys, width): &Wanted<'_>) -> u64 {
    width.bytes(*keys)
}

/// Reads a filter; `None`, and a line in the log, if it is damaged or missing.
async fn read(
    tables: &mut (impl PartitionTables + ?Sized),
    name: &FilterName,
    keys: u64,
    width: Width,
) -> Result<Option<KeyFilter>, StoreError> {
    let bits = segment_bits(keys);
    let mut segments = Vec::with_capacity(1 << bits);
    for number in 0..1 << bits {
        let content = tables.segment(name, number).await?;
        match content.map(|bytes| Segment::decode(&bytes, name, number, bits)) {
            Some(Ok(segment)) => {
                segments.push(segment);
                continue;
            }
            Some(Err(reason)) => tracing::warn!(
                partition = name.partition,
                segment = number,
                %reason,
                "a part of a filter of events is damaged: all keys are looked up until it is built again"
            ),
            // Its partition may have been removed in the meantime.
            None => {
                tracing::info!(partition = name.partition, segment = number, "a part of a filter of events is missing")
            }
        }
        return Ok(None);
    }
    Ok(Some(KeyFilter::new(segments, width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(layout: &Layout, max_bytes: u64) -> Vec<(&str, Width)> {
        choose(layout, max_bytes).into_iter().map(|(name, _, width)| (&*name.id, width)).collect()
    }

    #[test]
    fn filters_are_narrowed_before_any_is_left_out_and_the_oldest_is_left_out_first() {
        use Width::{Narrow, Wide};
        let layout = Layout::of_closed(&[(2, 800), (1, 800), (0, 800)], &[]);
        assert_eq!(chosen(&layout, 5_400), [("2", Wide), ("1", Wide), ("0", Wide)]);
        assert_eq!(chosen(&layout, 5_399), [("2", Narrow), ("1", Narrow), ("0", Narrow)]);
        assert_eq!(chosen(&layout, 2_700), [("2", Narrow), ("1", Narrow), ("0", Narrow)]);
        assert_eq!(chosen(&layout, 2_699), [("2", Narrow), ("1", Narrow)]);
        assert_eq!(chosen(&layout, 0), []);
    }

    #[test]
    fn a_group_takes_half_of_the_memory_of_its_partitions_and_is_left_out_before_them() {
        use Width::{Narrow, Wide};
        let layout = Layout::of_closed(&[(2, 800), (1, 800), (0, 800)], &[(0, 1, 1)]);
        let partitions = |alone| vec![("2", alone), ("1", Narrow), ("0", Narrow)];
        let with_group = |alone| [partitions(alone), vec![("0 to 1", Narrow)]].concat();
        assert_eq!(chosen(&layout, 5_400), with_group(Wide));
        assert_eq!(chosen(&layout, 5_399), with_group(Narrow));
        assert_eq!(chosen(&layout, 4_500), with_group(Narrow));
        assert_eq!(chosen(&layout, 4_499), partitions(Narrow));
        assert_eq!(chosen(&layout, 1_800), [("2", Narrow), ("1", Narrow)]);
    }
}
