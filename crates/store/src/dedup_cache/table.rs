//! The table of the [dedup cache](super): an LRU cache of fixed size whose entries have a time to live.

use std::time::Duration;

use sluice_event::EventKey;
use tokio::time::Instant;

use super::key_state::{KeyState, ShortHash};
use super::spread::Spread;

/// How long a key stays in the cache after it was stored or read. A row that somebody deletes by hand is
/// stored again if its event is sent again after this time.
pub const TTL: Duration = Duration::from_secs(600);
/// Entries in a bucket: their keys are two cache lines. With four, one key in a thousand was evicted from a table
/// that was a fifth full, and a duplicate of it in a batch makes the COPY of the batch fail.
pub(super) const BUCKET_KEYS: usize = 8;

/// The table, in arrays of numbers that begin as zeros, so that the system provides its memory page by page as it
/// is used. Each bucket is sorted by the last use of its entries, the most recent first.
pub(super) struct Table {
    keys: Vec<[u128; BUCKET_KEYS]>,
    hashes: Vec<[u64; BUCKET_KEYS]>,
    /// When each entry was stored or read, by [`Table::now`]; 0 where there is no entry.
    recorded: Vec<[u32; BUCKET_KEYS]>,
    spread: Spread,
    start: Instant,
    /// Number of invalidations.
    invalidations: u32,
    /// When the last of them was, by [`Table::now`].
    invalidated: u32,
}

impl Table {
    /// Creates a table for about `keys` keys.
    pub fn new(keys: usize, spread: Spread) -> Self {
        let buckets = (keys / BUCKET_KEYS).max(1).next_power_of_two();
        Self {
            keys: vec![[0; BUCKET_KEYS]; buckets],
            hashes: vec![[0; BUCKET_KEYS]; buckets],
            recorded: vec![[0; BUCKET_KEYS]; buckets],
            spread,
            start: Instant::now(),
            invalidations: 0,
            invalidated: 1,
        }
    }

    /// Invalidates all entries: from now on their keys are only [`KeyState::PreviouslyStored`].
    pub fn invalidate(&mut self) {
        self.invalidations = self.invalidations.saturating_add(1);
        self.invalidated = self.now();
    }

    /// Lets time pass.
    #[cfg(test)]
    pub fn age(&mut self, by: Duration) {
        self.start -= by;
    }

    /// Returns seconds, from 1 on. Each invalidation counts as one more, so that the entries before it are
    /// older than it.
    fn now(&self) -> u32 {
        let seconds = u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX);
        seconds.saturating_add(1).saturating_add(self.invalidations)
    }

    /// Returns when the oldest entries that are still valid were recorded.
    fn oldest_valid(&self) -> u32 {
        self.now().saturating_sub(TTL.as_secs() as u32).max(self.invalidated)
    }

    /// Sets the states of the keys that have an entry, and makes the entries the most recently used.
    pub fn look_up(&mut self, keys: &[EventKey], states: &mut [KeyState]) {
        let oldest_valid = self.oldest_valid();
        for (key, state) in keys.iter().zip(states) {
            let key = key.as_u128();
            let bucket = self.spread.place(key, self.keys.len());
            let Some(slot) = self.keys[bucket].iter().position(|other| *other == key) else { continue };
            match self.recorded[bucket][slot] {
                0 => continue,
                recorded if recorded < oldest_valid => {
                    *state = KeyState::PreviouslyStored;
                    continue;
                }
                _ => {}
            }
            if slot > 0 {
                self.keys[bucket][..=slot].rotate_right(1);
                self.hashes[bucket][..=slot].rotate_right(1);
                self.recorded[bucket][..=slot].rotate_right(1);
            }
            *state = KeyState::Stored(ShortHash(self.hashes[bucket][0]));
        }
    }

    /// Records stored keys, each in the place of the least recently used entry of its bucket, and passes the keys
    /// of evicted entries to `evicted`.
    pub fn record(&mut self, stored: &[(EventKey, ShortHash)], mut evicted: impl FnMut(EventKey)) {
        let (now, oldest_valid) = (self.now(), self.oldest_valid());
        for (key, hash) in stored {
            let key = key.as_u128();
            let bucket = self.spread.place(key, self.keys.len());
            let (keys, hashes) = (&mut self.keys[bucket], &mut self.hashes[bucket]);
            let recorded = &mut self.recorded[bucket];
            let own = keys.iter().position(|other| *other == key);
            // A valid entry keeps its time: recording it again does not mean that the store was read again.
            let since = own.map(|slot| recorded[slot]).filter(|&since| since >= oldest_valid).unwrap_or(now);
            let slot = own.unwrap_or(BUCKET_KEYS - 1);
            if own.is_none() && recorded[slot] > 0 {
                evicted(EventKey::from_u128(keys[slot]));
            }
            keys.copy_within(..slot, 1);
            hashes.copy_within(..slot, 1);
            recorded.copy_within(..slot, 1);
            (keys[0], hashes[0], recorded[0]) = (key, hash.0, since);
        }
    }
}
