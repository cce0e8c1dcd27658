//! A filter of keys that this process saw committed and does not know any more: a key that is not in it
//! need not be looked up before it is inserted.
//!
//! A Bloom filter whose bits for one key lie in one block of the processor's cache (Putze, Sanders,
//! Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). It may say of a key that it was
//! seen when it was not, never the other slot round, as long as the key is remembered: of two generations
//! the older is dropped once the younger is full, so that the filter does not fill up.

use sluice_event::EventKey;

/// A cache line.
type Block = [u64; 8];
const BLOCK_BITS: u32 = 8 * u64::BITS;
/// Bits set for one key.
const PROBES: u32 = 5;
/// Bits that a generation has for each of its keys: about one key in twenty that was not seen is then
/// said to have been.
const BITS_PER_KEY: usize = 6;

/// The filter.
pub struct BloomFilter {
    young: Generation,
    old: Generation,
}

struct Generation {
    blocks: Vec<Block>,
    keys: usize,
}

impl BloomFilter {
    /// In so many bytes, of which the second half is taken when the first is full. It remembers at least
    /// the last `bytes * 8 / 2 / 6` keys.
    pub fn new(bytes: usize) -> Self {
        let generation = || Generation::new((bytes / 2 / size_of::<Block>()).max(1));
        Self { young: generation(), old: generation() }
    }

    /// Adds a key, which is a hash.
    pub fn add(&mut self, key: EventKey) {
        // One that comes and goes is no more than one.
        if self.young.contains(key) {
            return;
        }
        if self.young.keys >= self.young.capacity() {
            let empty = Generation::new(self.young.blocks.len());
            self.old = std::mem::replace(&mut self.young, empty);
        }
        self.young.add(key);
    }

    /// Whether a key may have been added; false is certain, but for what was added long ago.
    pub fn contains(&self, key: EventKey) -> bool {
        self.young.contains(key) || self.old.contains(key)
    }
}

impl Generation {
    fn new(blocks: usize) -> Self {
        // Zeros, so that the system hands out memory as it is used.
        Self { blocks: vec![[0; 8]; blocks], keys: 0 }
    }

    fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK_BITS as usize / BITS_PER_KEY
    }

    /// By its first bits, so that sorted keys go through memory in one direction.
    fn block(&self, key: EventKey) -> usize {
        (((key.as_u128() >> 64) * self.blocks.len() as u128) >> 64) as usize
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

/// Where in its block a key's bits are: by its last bits, nine for each.
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
        let mut seen = BloomFilter::new(BYTES);
        keys.for_each(|n| seen.add(key(n)));
        seen
    }

    #[test]
    fn what_was_added_is_contained_for_as_long_as_is_said() {
        let seen = filter(0..CAPACITY * 5 / 2);
        let forgotten = (CAPACITY * 3 / 2..CAPACITY * 5 / 2).filter(|&n| !seen.contains(key(n))).count();
        assert_eq!(forgotten, 0);
    }

    #[test]
    fn few_others_are_contained_however_much_was_added() {
        for added in [0, 10, CAPACITY, CAPACITY * 10] {
            let seen = filter(0..added);
            let others = (1 << 40..(1 << 40) + 10_000).filter(|&n| seen.contains(key(n))).count();
            let most = if added < CAPACITY { 10 } else { 1_500 };
            assert!(others <= most, "{others} of 10,000 when {added} had been added");
        }
    }
}
