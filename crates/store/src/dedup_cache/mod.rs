//! The dedup cache: what a process can tell about keys without querying the store, from the keys that it
//! stored lately and those that it is inserting at this time.
//!
//! A duplicate of a cached key is dropped without a row being sent to the store, and the row of a key that
//! no other worker of the process is inserting can be inserted by COPY. A cached key is certain to be
//! stored: it is recorded after the COMMIT that stored it, or after it was read from the store. Keys that the
//! store may have lost must not be trusted, so all cached keys belong to a **generation**
//! ([`crate::Transaction::generation`]) and become invalid with it, and each has a time to live ([`TTL`]):
//! a row that somebody deletes is stored again if its event is sent again after that time.
//!
//! The keys are in an LRU cache of fixed size (`table.rs`), in buckets that a client cannot predict (`spread.rs`).
//! An evicted key is added to a Bloom filter
//! (`bloom.rs`). A key that is in neither was most likely never stored by this process, and need not be looked
//! up before it is inserted.
//!
//! Each batch reserves all its keys in one step, one batch after another. So a reservation only ever finds its keys
//! reserved by older ones, and may wait for those to end ([`KeyReservation::wait_for_others`]) without risk
//! of a deadlock.

mod bloom;
mod key_state;
mod spread;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_event::EventKey;
use tokio::sync::Notify;

use bloom::BloomFilter;
pub use key_state::{KeyState, ShortHash};
use spread::Spread;
pub use table::TTL;
use table::Table;

/// Bytes of the Bloom filter for each key of the table: enough to remember about five times as many keys.
const FILTER_BYTES_PER_KEY: usize = 8;

/// The dedup cache of a process, shared by its workers.
pub struct DedupCache {
    state: Mutex<State>,
    /// Notifies about every reservation that ends, in the order in which they are waited for.
    ended: Notify,
}

struct State {
    generation: u64,
    table: Table,
    /// The keys evicted from the table. Valid in every generation: it only decides which keys are looked up.
    previously_stored: BloomFilter,
    /// The keys that are being inserted, by reservation; each list is sorted.
    in_flight: Vec<(u64, Arc<[EventKey]>)>,
    /// Number of reservations made: the id of the last one.
    reservations: u64,
}

impl DedupCache {
    /// Creates a cache of about `keys` keys, at 28 bytes each, and a filter of 8 bytes for each. The memory is
    /// taken as the cache fills.
    pub fn new(keys: usize) -> Self {
        let spread = Spread::random();
        let previously_stored = BloomFilter::new(keys * FILTER_BYTES_PER_KEY, spread);
        let table = Table::new(keys, spread);
        let state = State { generation: 0, table, previously_stored, in_flight: Vec::new(), reservations: 0 };
        Self { state: Mutex::new(state), ended: Notify::new() }
    }

    /// Looks up keys, which are sorted and unique, and reserves those that are not cached as stored: they are
    /// in flight until the reservation is recorded or dropped.
    pub fn reserve(&self, generation: u64, keys: &[EventKey]) -> KeyReservation<'_> {
        let mut state = self.state();
        state.enter(generation);
        let mut states = vec![KeyState::Unknown; keys.len()];
        if state.generation == generation {
            state.table.look_up(keys, &mut states);
        }
        let State { previously_stored, .. } = &*state;
        for (key, key_state) in keys.iter().zip(&mut states) {
            if *key_state == KeyState::Unknown && previously_stored.contains(*key) {
                *key_state = KeyState::PreviouslyStored;
            }
        }
        let shares_keys = |(_, others): &&(u64, Arc<[EventKey]>)| mark_being_inserted(keys, others, &mut states);
        let others = state.in_flight.iter().filter(shares_keys).map(|(id, _)| *id).collect();
        let reserved = keys.iter().zip(&states).filter(|(_, key_state)| !matches!(key_state, KeyState::Stored(_)));
        let reserved = reserved.map(|(key, _)| *key).collect();
        state.reservations += 1;
        let id = state.reservations;
        state.in_flight.push((id, reserved));
        KeyReservation { cache: self, id, generation, states, others }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Invalidates the table if a later generation begins.
    fn enter(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.table.invalidate();
        }
    }
}

/// The reserved keys of one batch, while its transaction runs.
pub struct KeyReservation<'k> {
    cache: &'k DedupCache,
    id: u64,
    generation: u64,
    states: Vec<KeyState>,
    /// The older reservations that share keys with this one.
    others: Vec<u64>,
}

impl KeyReservation<'_> {
    /// Returns the state of each key when it was reserved, in the order in which the keys were given.
    pub fn states(&self) -> &[KeyState] {
        &self.states
    }

    /// Waits until the older transactions that were inserting keys of this one have ended, but no longer than
    /// `timeout`. Returns, for each of the `contended` keys, the payload hash if the key is cached as stored by
    /// then; `None` if its transaction was rolled back or still runs.
    pub async fn wait_for_others(&self, contended: &[EventKey], timeout: Duration) -> Vec<Option<ShortHash>> {
        let others_ended = async {
            loop {
                // Created before the check: it is notified of what ends after its creation.
                let ended = self.cache.ended.notified();
                if !self.cache.state().in_flight.iter().any(|(id, _)| self.others.contains(id)) {
                    return;
                }
                ended.await;
            }
        };
        // After a time-out too, the result is the states at this time.
        let _ = tokio::time::timeout(timeout, others_ended).await;
        let mut states = vec![KeyState::BeingInserted; contended.len()];
        let mut state = self.cache.state();
        if state.generation == self.generation {
            state.table.look_up(contended, &mut states);
        }
        let stored = |key_state| if let KeyState::Stored(hash) = key_state { Some(hash) } else { None };
        states.into_iter().map(stored).collect()
    }

    /// Records the keys that are stored, after the transaction was committed. Ends the reservation.
    pub fn record_stored(self, stored: &[(EventKey, ShortHash)]) {
        let mut state = self.cache.state();
        let State { generation, table, previously_stored, .. } = &mut *state;
        // The store may have lost what was committed in an earlier generation.
        if *generation == self.generation {
            table.record(stored, |evicted| previously_stored.add(evicted));
        }
    }
}

impl Drop for KeyReservation<'_> {
    fn drop(&mut self) {
        self.cache.state().in_flight.retain(|(id, _)| *id != self.id);
        self.cache.ended.notify_waiters();
    }
}

/// Marks the keys that another sorted list contains too. Returns whether there are any.
fn mark_being_inserted(keys: &[EventKey], others: &[EventKey], states: &mut [KeyState]) -> bool {
    let mut others = others.iter().peekable();
    let mut any = false;
    for (key, key_state) in keys.iter().zip(states) {
        while others.next_if(|other| other.as_u128() < key.as_u128()).is_some() {}
        if others.peek() == Some(&key) && !matches!(key_state, KeyState::Stored(_)) {
            *key_state = KeyState::BeingInserted;
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::table::BUCKET_KEYS;
    use super::*;

    fn key(n: u128) -> EventKey {
        EventKey::from_u128(n)
    }

    fn hash(n: u64) -> ShortHash {
        ShortHash(n)
    }

    fn states(cache: &DedupCache, generation: u64, keys: &[EventKey]) -> Vec<KeyState> {
        cache.reserve(generation, keys).states().to_vec()
    }

    #[test]
    fn a_key_is_cached_once_its_transaction_is_committed_and_not_before() {
        let cache = DedupCache::new(64);
        let reservation = cache.reserve(1, &[key(0), key(7)]);
        assert_eq!(reservation.states(), [KeyState::Unknown; 2]);
        assert_eq!(
            states(&cache, 1, &[key(0), key(3), key(7)]),
            [KeyState::BeingInserted, KeyState::Unknown, KeyState::BeingInserted]
        );
        reservation.record_stored(&[(key(0), hash(5))]);
        assert_eq!(states(&cache, 1, &[key(0), key(7)]), [KeyState::Stored(hash(5)), KeyState::Unknown]);
    }

    #[test]
    fn a_key_expires_however_often_it_is_sent() {
        let cache = DedupCache::new(64);
        let sent_after = |seconds| {
            cache.state().table.age(Duration::from_secs(seconds));
            let reservation = cache.reserve(1, &[key(7)]);
            let key_state = reservation.states()[0];
            reservation.record_stored(&[(key(7), hash(5))]);
            key_state
        };
        let third = TTL.as_secs() / 3;
        let stored = KeyState::Stored(hash(5));
        assert_eq!([sent_after(0), sent_after(third), sent_after(third)], [KeyState::Unknown, stored, stored]);
        assert_eq!([sent_after(third + 2), sent_after(third)], [KeyState::PreviouslyStored, stored]);
    }

    #[test]
    fn a_key_that_was_rolled_back_is_neither_cached_nor_in_flight() {
        let cache = DedupCache::new(64);
        drop(cache.reserve(1, &[key(7)]));
        assert_eq!(states(&cache, 1, &[key(7)]), [KeyState::Unknown]);
    }

    #[tokio::test]
    async fn a_reservation_finds_what_older_ones_stored_once_they_have_ended() {
        let cache = DedupCache::new(64);
        let (stored, rolled_back) = (cache.reserve(1, &[key(1)]), cache.reserve(1, &[key(2)]));
        let reservation = cache.reserve(1, &[key(1), key(2), key(3)]);
        let contended = [key(1), key(2)];
        let found = reservation.wait_for_others(&contended, Duration::from_secs(10));
        let ends = async {
            drop(rolled_back);
            tokio::task::yield_now().await;
            stored.record_stored(&[(key(1), hash(5))]);
        };
        assert_eq!(tokio::join!(found, ends).0, [Some(hash(5)), None]);
        // Younger reservations are not waited for, nor those that hold other keys.
        let _younger = cache.reserve(1, &[key(1), key(3)]);
        assert_eq!(reservation.wait_for_others(&contended, Duration::MAX).await, [Some(hash(5)), None]);
    }

    #[tokio::test]
    async fn the_wait_for_an_older_reservation_that_does_not_end_is_bounded() {
        let cache = DedupCache::new(64);
        let _older = cache.reserve(1, &[key(1)]);
        let reservation = cache.reserve(1, &[key(1)]);
        assert_eq!(reservation.wait_for_others(&[key(1)], Duration::from_millis(1)).await, [None]);
    }

    #[tokio::test]
    async fn keys_that_were_stored_in_another_generation_are_not_trusted() {
        let cache = DedupCache::new(64);
        let older = cache.reserve(2, &[key(1)]);
        let reservation = cache.reserve(1, &[key(1)]);
        older.record_stored(&[(key(1), hash(5))]);
        assert_eq!(reservation.wait_for_others(&[key(1)], Duration::MAX).await, [None]);
    }

    #[test]
    fn a_new_generation_trusts_no_earlier_key_and_looks_it_up() {
        let cache = DedupCache::new(64);
        cache.reserve(1, &[key(7)]).record_stored(&[(key(7), hash(5))]);
        let late = cache.reserve(1, &[key(8)]);
        assert_eq!(states(&cache, 2, &[key(7), key(8)]), [KeyState::PreviouslyStored, KeyState::BeingInserted]);
        late.record_stored(&[(key(8), hash(5))]);
        assert_eq!(states(&cache, 2, &[key(7), key(8)]), [KeyState::PreviouslyStored, KeyState::Unknown]);
        cache.reserve(2, &[key(7)]).record_stored(&[(key(7), hash(6))]);
        assert_eq!(states(&cache, 2, &[key(7)]), [KeyState::Stored(hash(6))]);
        // Nothing is cached either for a connection of an earlier generation that is still in use.
        cache.reserve(2, &[key(9)]).record_stored(&[(key(9), hash(5))]);
        assert_eq!(states(&cache, 1, &[key(9)]), [KeyState::Unknown]);
    }

    #[test]
    fn a_full_bucket_evicts_its_least_recently_used_key() {
        let cache = DedupCache::new(BUCKET_KEYS);
        let store = |n: u128| cache.reserve(0, &[key(n)]).record_stored(&[(key(n), hash(n as u64))]);
        let last = BUCKET_KEYS as u128;
        (1..=last).for_each(store);
        store(1);
        store(last + 1);
        let keys: Vec<_> = (1..=last + 1).map(key).collect();
        let stored = |n| if n == 2 { KeyState::PreviouslyStored } else { KeyState::Stored(hash(n)) };
        assert_eq!(states(&cache, 0, &keys), (1..=last as u64 + 1).map(stored).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_table_caches_most_of_as_many_keys_as_it_has_room_for() {
        let cache = DedupCache::new(1 << 12);
        let mut keys: Vec<_> = (0..1u64 << 12).map(|n| EventKey::from_bytes(hashed(n))).collect();
        keys.sort_unstable();
        let stored: Vec<_> = keys.iter().map(|&key| (key, hash(1))).collect();
        cache.reserve(0, &keys).record_stored(&stored);
        let cached = states(&cache, 0, &keys).into_iter().filter(|s| *s == KeyState::Stored(hash(1))).count();
        assert!(cached > keys.len() * 4 / 5, "{cached} of {}", keys.len());
    }

    #[test]
    fn keys_with_the_same_first_bits_do_not_evict_each_other() {
        let cache = DedupCache::new(1 << 12);
        // What a client can find: a hash whose first 32 bits are zeros, again and again.
        let mut keys: Vec<_> = (0..256).map(|n| key(u128::from_be_bytes(hashed(n)) >> 32)).collect();
        keys.sort_unstable();
        cache.reserve(0, &keys).record_stored(&keys.iter().map(|&key| (key, hash(1))).collect::<Vec<_>>());
        let cached = states(&cache, 0, &keys).into_iter().filter(|s| *s == KeyState::Stored(hash(1))).count();
        assert!(cached > keys.len() * 9 / 10, "{cached} of {}", keys.len());
    }

    #[test]
    fn few_keys_are_evicted_from_a_table_that_is_half_full() {
        let cache = DedupCache::new(1 << 16);
        let mut keys: Vec<_> = (0..1u64 << 15).map(|n| EventKey::from_bytes(hashed(n))).collect();
        keys.sort_unstable();
        cache.reserve(0, &keys).record_stored(&keys.iter().map(|&key| (key, hash(1))).collect::<Vec<_>>());
        let evicted = states(&cache, 0, &keys).into_iter().filter(|s| *s == KeyState::PreviouslyStored).count();
        assert!(evicted < keys.len() / 50, "{evicted} of {}", keys.len());
    }

    fn hashed(n: u64) -> [u8; 16] {
        sluice_event::key::hash128(&n.to_le_bytes())
    }
}
