//! A Bloom filter of keys that this process stored and has evicted from its cache: a key that is not in the
//! filter need not be looked up before it is inserted.
//!
//! All bits of a key are in one block of the size of a cache line (Putze, Sanders, Singler: "Cache-, Hash- and
//! Space-Efficient Bloom Filters", 2007). The filter may report a key that was never added, but it never misses one of
//! the keys that it remembers. Of its two halves the older is dropped when the younger is full, so that the
//! filter does not fill up.

use sluice_event::EventKey;

use super::spread::Spread;

/// A cache line.
type Block = [u64; 8];
const BLOCK_BITS: u32 = 8 * u64::BITS;
/// Bits set for one key.
const PROBES: u32 = 5;
/// Bits of a half for each of its keys: about one key in twenty that was not added is then reported.
const BITS_PER_KEY: usize = 6;

/// The Bloom filter.
pub struct BloomFilter {
    spread: Spread,
    young: Half,
    old: Half,
}

struct Half {
    spread: Spread,
    blocks: Vec<Block>,
    keys: usize,
}

impl BloomFilter {
    /// Creates a filter of so many bytes. Memory is taken as it fills, that of the second half when the first
    /// is full. It remembers at least the last `bytes * 8 / 2 / 6` keys.
    pub fn new(bytes: usize, spread: Spread) -> Self {
        let half = || Half::new((bytes / 2 / size_of::<Block>()).max(1), spread);
        Self { spread, young: half(), old: half() }
    }

    /// Adds a key, which is a hash.
    pub fn add(&mut self, key: EventKey) {
        // A key that is evicted repeatedly takes the room of one.
        if self.young.contains(key) {
            return;
        }
        if self.young.keys >= self.young.capacity() {
            let empty = Half::new(self.young.blocks.len(), self.spread);
            self.old = std::mem::replace(&mut self.young, empty);
        }
        self.young.add(key);
    }

    /// Returns whether a key may have been added. False is certain, except for keys added long ago.
    pub fn contains(&self, key: EventKey) -> bool {
        self.young.contains(key) || self.old.contains(key)
    }
}

impl Half {
    fn new(blocks: usize, spread: Spread) -> Self {
        // Zeros, so that the system provides memory as it is used.
        Self { spread, blocks: vec![[0; 8]; blocks], keys: 0 }
    }

    fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK_BITS as usize / BITS_PER_KEY
    }

    fn block(&self, key: EventKey) -> usize {
        self.spread.place(key.as_u128(), self.blocks.len())
    }

    fn add(&mut self, key: EventKey) {
        let block = self.block(key);
        for (word, bit) in probes(key) {
            self.blocks[block][word] |= bit;
        }
        self.keys += 1;
    }

    fn contains(&self, key: EventKey) -> bool {
        self.keys > 0 && {
            let block = &self.blocks[self.block(key)];
            probes(key).all(|(word, bit)| block[word] & bit != 0)
        }
    }
}

/// Returns the word and the bit of each probe of a key within its block: by the last bits of the key, nine
/// for each probe.
fn probes(key: EventKey) -> impl Iterator<Item = (usize, u64)> {
    let bits = key.as_u128() as u64;
    (0..PROBES).map(move |probe| {
        let place = (bits >> (probe * BLOCK_BITS.ilog2())) as u32 % BLOCK_BITS;
        ((place / u64::BITS) as usize, 1 << (place % u64::BITS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1 << 16;
    const CAPACITY: u64 = (BYTES * 8 / 2 / BITS_PER_KEY) as u64;

    fn key(n: u64) -> EventKey {
        EventKey::from_bytes(sluice_event::key::hash128(&n.to_le_bytes()))
    }

    fn filter(keys: impl Iterator<Item = u64>) -> BloomFilter {
        let mut filter = BloomFilter::new(BYTES, Spread::random());
        keys.for_each(|n| filter.add(key(n)));
        filter
    }

    #[test]
    fn as_many_of_the_last_keys_as_documented_are_contained() {
        let filter = filter(0..CAPACITY * 5 / 2);
        let forgotten = (CAPACITY * 3 / 2..CAPACITY * 5 / 2).filter(|&n| !filter.contains(key(n))).count();
        assert_eq!(forgotten, 0);
    }

    #[test]
    fn few_other_keys_are_contained_however_many_were_added() {
        for added in [0, 10, CAPACITY, CAPACITY * 10] {
            let filter = filter(0..added);
            let others = (1 << 40..(1 << 40) + 10_000).filter(|&n| filter.contains(key(n))).count();
            let max_others = if added < CAPACITY { 10 } else { 1_500 };
            assert!(others <= max_others, "{others} of 10,000 when {added} had been added");
        }
    }
}
