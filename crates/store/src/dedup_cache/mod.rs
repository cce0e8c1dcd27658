//! What this process knows of keys without asking the store: those that it saw committed lately,
//! and those that it is committing right now.
//!
//! A duplicate of a known key is dropped without a row being sent to the store, and a row of a key
//! that nobody here is committing can be inserted in the quickest slot. Neither is ever a guess: a
//! key becomes known after the COMMIT that stored it, or after it was read from the store. What the
//! store may have lost must not be trusted, so everything known belongs to an **generation**
//! ([`crate::Transaction::generation`]), and nothing is known for longer than [`TTL`]: rows that somebody
//! deletes, by retention or by hand, are stored again when they are sent again after that.
//!
//! The known keys lie in a table of fixed size, in buckets found by the first bits of the key, which is a
//! hash already: keys that come sorted go through memory in one direction. A new key takes the place of
//! the one in its bucket that was seen last the longest ago, and that one goes to a filter ([`bloom`]):
//! what is neither known nor there was most likely never stored by this process, and need not be looked up.
//!
//! Reservations are made one after the other, each for all keys of its batch. So a reservation only ever finds
//! keys contended by older ones, and may wait for those to end ([`KeyReservation::wait_for_others`]) without
//! ever waiting in a circle.

mod bloom;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_event::{EventKey, PayloadHash};
use tokio::sync::watch;

use bloom::BloomFilter;

/// For how long a key is known.
pub const TTL: Duration = Duration::from_secs(600);
/// Keys in a bucket: two cache lines of them. With four, one key in a thousand lost its place in a table
/// that was a fifth full, and a duplicate of it in a batch makes the batch's COPY fail.
const BUCKET_KEYS: usize = 8;

/// The first 64 bits of a payload's hash: enough to tell a conflict from a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortHash(u64);

impl From<PayloadHash> for ShortHash {
    fn from(hash: PayloadHash) -> Self {
        Self((hash.as_u128() >> 64) as u64)
    }
}

/// What is known of a key before its row is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is stored, with this payload.
    Stored(ShortHash),
    /// Another transaction of this process is inserting it.
    BeingInserted,
    /// Most likely it was stored, some time ago.
    PreviouslyStored,
    /// Nothing. Most likely it is new.
    Unknown,
}

/// The keys that a process knows; shared by its workers.
pub struct DedupCache {
    state: Mutex<State>,
    /// Told whenever a reservation has ended.
    ended: watch::Sender<()>,
}

struct State {
    generation: u64,
    table: Table,
    /// What the table had to forget. Whatever the generation: it only says what to look up.
    previously_stored: BloomFilter,
    /// What is being inserted, by reservation; each list is sorted.
    in_flight: Vec<(u64, Arc<[EventKey]>)>,
    reservations: u64,
}

impl DedupCache {
    /// Room for about `keys` keys, at 28 bytes each, and for a filter of 8 bytes each; taken as it is filled.
    pub fn new(keys: usize) -> Self {
        let (table, previously_stored) = (Table::new(keys), BloomFilter::new(keys * 8));
        let state = State { generation: 0, table, previously_stored, in_flight: Vec::new(), reservations: 0 };
        Self { state: Mutex::new(state), ended: watch::Sender::new(()) }
    }

    /// Looks keys up, which are sorted and unique, and notes that those that are not known to be stored are
    /// being inserted, until the reservation is recorded or dropped.
    pub fn reserve(&self, generation: u64, keys: &[EventKey]) -> KeyReservation<'_> {
        let mut state = self.state();
        state.enter(generation);
        let mut states = vec![KeyState::Unknown; keys.len()];
        if state.generation == generation {
            state.table.look_up(keys, &mut states);
        }
        let State { previously_stored, .. } = &*state;
        for (key, state_of_key) in keys.iter().zip(&mut states) {
            if *state_of_key == KeyState::Unknown && previously_stored.contains(*key) {
                *state_of_key = KeyState::PreviouslyStored;
            }
        }
        let in_the_way = |(_, others): &&(u64, Arc<[EventKey]>)| mark_being_inserted(keys, others, &mut states);
        let others = state.in_flight.iter().filter(in_the_way).map(|(id, _)| *id).collect();
        let inserting =
            keys.iter().zip(&states).filter(|(_, state_of_key)| !matches!(state_of_key, KeyState::Stored(_)));
        let inserting = inserting.map(|(key, _)| *key).collect();
        state.reservations += 1;
        let id = state.reservations;
        state.in_flight.push((id, inserting));
        KeyReservation { cache: self, id, generation, states, others }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A later generation begins with nothing known.
    fn enter(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.table.distrust();
        }
    }
}

/// The keys of one batch while its transaction runs.
pub struct KeyReservation<'k> {
    cache: &'k DedupCache,
    id: u64,
    generation: u64,
    states: Vec<KeyState>,
    /// The reservations that hold keys of this one.
    others: Vec<u64>,
}

impl KeyReservation<'_> {
    /// What was known of each key, in the order they were given.
    pub fn states(&self) -> &[KeyState] {
        &self.states
    }

    /// Waits until the transactions that were inserting `contended` keys have ended, but for no longer
    /// than `patience`; answers what is stored by then. Of other keys nothing is known: they were rolled
    /// back, or are still being inserted.
    pub async fn wait_for_others(&self, contended: &[EventKey], patience: Duration) -> Vec<Option<ShortHash>> {
        let mut ended = self.cache.ended.subscribe();
        let wait_for_others = ended.wait_for(|()| {
            let state = self.cache.state();
            !state.in_flight.iter().any(|(id, _)| self.others.contains(id))
        });
        // Late or not, the answer is what is known now.
        let _ = tokio::time::timeout(patience, wait_for_others).await;
        let mut states = vec![KeyState::BeingInserted; contended.len()];
        let mut state = self.cache.state();
        if state.generation == self.generation {
            state.table.look_up(contended, &mut states);
        }
        let stored = |state_of_key| if let KeyState::Stored(hash) = state_of_key { Some(hash) } else { None };
        states.into_iter().map(stored).collect()
    }

    /// Learns what is stored, now that the transaction is committed.
    pub fn record_stored(self, stored: &[(EventKey, ShortHash)]) {
        let mut state = self.cache.state();
        let State { generation, table, previously_stored, .. } = &mut *state;
        // What another generation has seen may be gone.
        if *generation == self.generation {
            table.learn(stored, |forgotten| previously_stored.add(forgotten));
        }
    }
}

impl Drop for KeyReservation<'_> {
    fn drop(&mut self) {
        self.cache.state().in_flight.retain(|(id, _)| *id != self.id);
        self.cache.ended.send_replace(());
    }
}

/// Marks the keys that another sorted list holds too; answers whether there were any.
fn mark_being_inserted(keys: &[EventKey], others: &[EventKey], states: &mut [KeyState]) -> bool {
    let mut others = others.iter().peekable();
    let mut any = false;
    for (key, state_of_key) in keys.iter().zip(states) {
        while others.next_if(|other| other.as_u128() < key.as_u128()).is_some() {}
        if others.peek() == Some(&key) && !matches!(state_of_key, KeyState::Stored(_)) {
            *state_of_key = KeyState::BeingInserted;
            any = true;
        }
    }
    any
}

/// The table: arrays of numbers, so that the system hands out its memory page by page as it is used.
struct Table {
    keys: Vec<[u128; BUCKET_KEYS]>,
    hashes: Vec<[u64; BUCKET_KEYS]>,
    /// By [`Table::now`]; 0 where there is no key.
    learned: Vec<[u32; BUCKET_KEYS]>,
    began: Instant,
    /// How often all was distrusted, and when last.
    distrusted: (u32, u32),
}

impl Table {
    fn new(keys: usize) -> Self {
        let buckets = (keys / BUCKET_KEYS).max(1).next_power_of_two();
        Self {
            keys: vec![[0; BUCKET_KEYS]; buckets],
            hashes: vec![[0; BUCKET_KEYS]; buckets],
            learned: vec![[0; BUCKET_KEYS]; buckets],
            began: Instant::now(),
            distrusted: (0, 1),
        }
    }

    /// From now on nothing of what is here is known, only seen.
    fn distrust(&mut self) {
        self.distrusted.0 = self.distrusted.0.saturating_add(1);
        self.distrusted.1 = self.now();
    }

    /// Seconds from 1 on. Each distrust counts as one more, so that what was learned before it is older.
    fn now(&self) -> u32 {
        let seconds = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        seconds.saturating_add(1).saturating_add(self.distrusted.0)
    }

    /// When what is still known was learned at the earliest.
    fn oldest(&self) -> u32 {
        self.now().saturating_sub(TTL.as_secs() as u32).max(self.distrusted.1)
    }

    fn bucket(&self, key: u128) -> usize {
        // As many of the first bits as number the buckets.
        (((key >> 64) * self.keys.len() as u128) >> 64) as usize
    }

    /// What is found is young again, as far as its place goes.
    fn look_up(&mut self, keys: &[EventKey], states: &mut [KeyState]) {
        let oldest = self.oldest();
        for (key, state_of_key) in keys.iter().zip(states) {
            let key = key.as_u128();
            let bucket = self.bucket(key);
            let slot = self.keys[bucket].iter().position(|known| *known == key);
            let Some(slot) = slot else { continue };
            match self.learned[bucket][slot] {
                0 => continue,
                learned if learned < oldest => {
                    *state_of_key = KeyState::PreviouslyStored;
                    continue;
                }
                _ => {}
            }
            if slot > 0 {
                self.keys[bucket][..=slot].rotate_right(1);
                self.hashes[bucket][..=slot].rotate_right(1);
                self.learned[bucket][..=slot].rotate_right(1);
            }
            *state_of_key = KeyState::Stored(ShortHash(self.hashes[bucket][0]));
        }
    }

    fn learn(&mut self, stored: &[(EventKey, ShortHash)], mut forget: impl FnMut(EventKey)) {
        let (now, oldest) = (self.now(), self.oldest());
        for (key, hash) in stored {
            let key = key.as_u128();
            let bucket = self.bucket(key);
            let (keys, hashes, learned) = (&mut self.keys[bucket], &mut self.hashes[bucket], &mut self.learned[bucket]);
            // In its own place if it has one, else in that of the oldest, which is the last.
            let own = keys.iter().position(|known| *known == key);
            // BloomFilter again is not read again: what is known of it is as old as it was.
            let since = own.map(|slot| learned[slot]).filter(|&learned| learned >= oldest).unwrap_or(now);
            let slot = own.unwrap_or(BUCKET_KEYS - 1);
            if own.is_none() && learned[slot] > 0 {
                forget(EventKey::from_u128(keys[slot]));
            }
            keys.copy_within(..slot, 1);
            hashes.copy_within(..slot, 1);
            learned.copy_within(..slot, 1);
            (keys[0], hashes[0], learned[0]) = (key, hash.0, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> EventKey {
        EventKey::from_u128(n)
    }

    fn hash(n: u64) -> ShortHash {
        ShortHash(n)
    }

    fn states(known: &DedupCache, generation: u64, keys: &[EventKey]) -> Vec<KeyState> {
        known.reserve(generation, keys).states().to_vec()
    }

    #[test]
    fn a_key_is_known_once_its_transaction_is_committed_and_not_before() {
        let known = DedupCache::new(64);
        let reservation = known.reserve(1, &[key(0), key(7)]);
        assert_eq!(reservation.states(), [KeyState::Unknown; 2]);
        assert_eq!(
            states(&known, 1, &[key(0), key(3), key(7)]),
            [KeyState::BeingInserted, KeyState::Unknown, KeyState::BeingInserted]
        );
        reservation.record_stored(&[(key(0), hash(5))]);
        assert_eq!(states(&known, 1, &[key(0), key(7)]), [KeyState::Stored(hash(5)), KeyState::Unknown]);
    }

    #[test]
    fn a_key_is_forgotten_in_time_however_often_it_is_seen() {
        let known = DedupCache::new(64);
        let seen = |seconds| {
            known.state().table.began -= Duration::from_secs(seconds);
            let reservation = known.reserve(1, &[key(7)]);
            let state_of_key = reservation.states()[0];
            reservation.record_stored(&[(key(7), hash(5))]);
            state_of_key
        };
        let third = TTL.as_secs() / 3;
        let stored = KeyState::Stored(hash(5));
        assert_eq!([seen(0), seen(third), seen(third)], [KeyState::Unknown, stored, stored]);
        assert_eq!([seen(third + 2), seen(third)], [KeyState::PreviouslyStored, stored]);
    }

    #[test]
    fn what_was_rolled_back_is_neither_known_nor_contended() {
        let known = DedupCache::new(64);
        drop(known.reserve(1, &[key(7)]));
        assert_eq!(states(&known, 1, &[key(7)]), [KeyState::Unknown]);
    }

    #[tokio::test]
    async fn a_claim_learns_what_older_claims_stored_once_they_have_ended() {
        let known = DedupCache::new(64);
        let (stored, rolled_back) = (known.reserve(1, &[key(1)]), known.reserve(1, &[key(2)]));
        let reservation = known.reserve(1, &[key(1), key(2), key(3)]);
        let contended = [key(1), key(2)];
        let learned = reservation.wait_for_others(&contended, Duration::from_secs(10));
        let ends = async {
            drop(rolled_back);
            tokio::task::yield_now().await;
            stored.record_stored(&[(key(1), hash(5))]);
        };
        assert_eq!(tokio::join!(learned, ends).0, [Some(hash(5)), None]);
        // Younger reservations are not waited for, nor those that hold other keys.
        let _younger = known.reserve(1, &[key(1), key(3)]);
        assert_eq!(reservation.wait_for_others(&contended, Duration::MAX).await, [Some(hash(5)), None]);
    }

    #[tokio::test]
    async fn an_older_claim_that_does_not_end_is_waited_for_no_longer_than_said() {
        let known = DedupCache::new(64);
        let _older = known.reserve(1, &[key(1)]);
        let reservation = known.reserve(1, &[key(1)]);
        assert_eq!(reservation.wait_for_others(&[key(1)], Duration::from_millis(1)).await, [None]);
    }

    #[tokio::test]
    async fn what_was_stored_in_another_epoch_is_not_learned() {
        let known = DedupCache::new(64);
        let older = known.reserve(2, &[key(1)]);
        let reservation = known.reserve(1, &[key(1)]);
        older.record_stored(&[(key(1), hash(5))]);
        assert_eq!(reservation.wait_for_others(&[key(1)], Duration::MAX).await, [None]);
    }

    #[test]
    fn another_epoch_knows_nothing_of_what_was_before_it_and_looks_it_up() {
        let known = DedupCache::new(64);
        known.reserve(1, &[key(7)]).record_stored(&[(key(7), hash(5))]);
        let late = known.reserve(1, &[key(8)]);
        assert_eq!(states(&known, 2, &[key(7), key(8)]), [KeyState::PreviouslyStored, KeyState::BeingInserted]);
        late.record_stored(&[(key(8), hash(5))]);
        assert_eq!(states(&known, 2, &[key(7), key(8)]), [KeyState::PreviouslyStored, KeyState::Unknown]);
        known.reserve(2, &[key(7)]).record_stored(&[(key(7), hash(6))]);
        assert_eq!(states(&known, 2, &[key(7)]), [KeyState::Stored(hash(6))]);
        // A connection of the past, still in use for a moment, is told nothing either.
        known.reserve(2, &[key(9)]).record_stored(&[(key(9), hash(5))]);
        assert_eq!(states(&known, 1, &[key(9)]), [KeyState::Unknown]);
    }

    #[test]
    fn a_full_bucket_forgets_its_oldest_key_and_a_key_seen_again_is_young() {
        let known = DedupCache::new(BUCKET_KEYS);
        let learn = |n: u128| known.reserve(0, &[key(n)]).record_stored(&[(key(n), hash(n as u64))]);
        let last = BUCKET_KEYS as u128;
        (1..=last).for_each(learn);
        learn(1);
        learn(last + 1);
        let keys: Vec<_> = (1..=last + 1).map(key).collect();
        let stored = |n| if n == 2 { KeyState::PreviouslyStored } else { KeyState::Stored(hash(n)) };
        assert_eq!(states(&known, 0, &keys), (1..=last as u64 + 1).map(stored).collect::<Vec<_>>());
    }

    #[test]
    fn most_of_as_many_keys_as_there_is_room_for_are_known() {
        let known = DedupCache::new(1 << 12);
        let mut keys: Vec<_> = (0..1u64 << 12).map(|n| EventKey::from_bytes(blake(n))).collect();
        keys.sort_unstable();
        let stored: Vec<_> = keys.iter().map(|&key| (key, hash(1))).collect();
        known.reserve(0, &keys).record_stored(&stored);
        let known = states(&known, 0, &keys).into_iter().filter(|s| *s == KeyState::Stored(hash(1))).count();
        assert!(known > keys.len() * 4 / 5, "{known} of {}", keys.len());
    }

    #[test]
    fn hardly_a_key_of_a_table_that_is_half_full_is_forgotten() {
        let known = DedupCache::new(1 << 16);
        let mut keys: Vec<_> = (0..1u64 << 15).map(|n| EventKey::from_bytes(blake(n))).collect();
        keys.sort_unstable();
        known.reserve(0, &keys).record_stored(&keys.iter().map(|&key| (key, hash(1))).collect::<Vec<_>>());
        let forgotten = states(&known, 0, &keys).into_iter().filter(|s| *s == KeyState::PreviouslyStored).count();
        assert!(forgotten < keys.len() / 50, "{forgotten} of {}", keys.len());
    }

    fn blake(n: u64) -> [u8; 16] {
        sluice_event::key::hash128(&n.to_le_bytes())
    }
}
