//! The filters that a process has in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::group::Group;
use super::key_filter::{FilterName, KeyFilter, Segment, Width, segment_bits};
use super::layout::Closed;
use crate::{PartitionFigures, StoreError};

/// What stored filters are read from.
#[async_trait]
pub trait SegmentSource: Send {
    /// Returns a stored segment of a filter.
    async fn segment(&mut self, filter: &FilterName, number: u32) -> Result<Option<Vec<u8>>, StoreError>;
}

/// A filter to have in memory.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a FilterName,
    /// How many keys it has.
    pub keys: u64,
    /// The width of its fingerprints.
    pub width: Width,
}

impl Wanted<'_> {
    /// Returns about how many bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.width.bytes(self.keys)
    }
}

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
    /// Returns a filter, if it is in memory.
    pub fn get(&self, name: &FilterName) -> Option<&KeyFilter> {
        self.by_id.get(&name.id).map(|filter| &**filter)
    }

    /// Returns the filter of a closed partition, if it is in memory.
    pub fn of(&self, closed: &Closed) -> Option<&KeyFilter> {
        closed.filter.as_ref().and_then(|(name, _)| self.get(name))
    }

    /// Returns the filter of a group of closed partitions, if it is in memory.
    pub fn of_group(&self, group: &Group) -> Option<&KeyFilter> {
        self.get(&group.filter)
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

    /// Returns how many bytes the filters take at most.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Returns what the filters are good for, given the filter of each closed partition, if it has one.
    pub fn figures<'a>(&self, closed: impl IntoIterator<Item = Option<&'a FilterName>>) -> PartitionFigures {
        let loaded = self.loaded();
        let (mut partitions, mut without_filter) = (1, 0);
        for filter in closed {
            partitions += 1;
            without_filter += u64::from(filter.and_then(|name| loaded.get(name)).is_none());
        }
        PartitionFigures {
            partitions,
            without_filter,
            filter_bytes: loaded.by_id.values().map(|filter| filter.bytes()).sum(),
            keys_looked_up: self.usage.looked_up.load(Ordering::Relaxed),
            keys_found: self.usage.found.load(Ordering::Relaxed),
        }
    }

    /// Loads those of these filters that are not in memory yet, and drops all others. Returns the filters that are damaged or
    /// missing.
    ///
    /// # Errors
    /// If the store fails. Those that were loaded before are of use.
    pub async fn load<'a>(
        &self,
        source: &mut (impl SegmentSource + ?Sized),
        wanted: Vec<Wanted<'a>>,
    ) -> Result<Vec<FilterName>, StoreError> {
        let before = self.loaded().by_id;
        if before.len() == wanted.len()
            && wanted.iter().all(|wanted| before.get(&wanted.name.id).is_some_and(|f| f.width() == wanted.width))
        {
            return Ok(Vec::new());
        }
        let (mut loaded, mut damaged) = (HashMap::new(), Vec::new());
        for Wanted { name, keys, width } in wanted {
            let filter = match before.get(&name.id) {
                Some(filter) if filter.width() == width => Some(Arc::clone(filter)),
                Some(filter) if width == Width::Narrow => Some(Arc::new(filter.narrowed())),
                _ => read(source, name, keys, width).await?.map(Arc::new),
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

/// Reads a filter; `None`, and a line in the log, if it is damaged or missing.
async fn read(
    source: &mut (impl SegmentSource + ?Sized),
    name: &FilterName,
    keys: u64,
    width: Width,
) -> Result<Option<KeyFilter>, StoreError> {
    let bits = segment_bits(keys);
    let mut filter = KeyFilter::of_width(width);
    for number in 0..1 << bits {
        let content = source.segment(name, number).await?;
        match content.map(|bytes| Segment::decode(&bytes, name, number, bits)) {
            Some(Ok(segment)) => {
                filter.push(segment);
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
    Ok(Some(filter))
}
