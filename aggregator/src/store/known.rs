//! What this process knows of keys without asking the store: those that it saw committed lately,
//! and those that it is committing right now.
//!
//! A duplicate of a known key is dropped without a row being sent to the store, and a row of a key
//! that nobody here is committing can be inserted in the quickest way. Neither is ever a guess: a
//! key becomes known after the COMMIT that stored it, or after it was read from the store. What the
//! store may have lost must not be trusted, so everything known belongs to an **epoch**
//! ([`super::Transaction::epoch`]), and nothing is known for longer than [`KEEP`]: rows that somebody
//! deletes, by retention or by hand, are stored again when they are sent again after that.
//!
//! The known keys lie in a table of fixed size, in buckets found by the first bits of the key, which is a
//! hash already: keys that come sorted go through memory in one direction. A new key takes the place of
//! the one in its bucket that was seen last the longest ago, and that one goes to a filter ([`super::seen`]):
//! what is neither known nor there was most likely never stored by this process, and need not be looked up.
//!
//! Claims are made one after the other, each for all keys of its batch. So a claim only ever finds
//! keys contended by older ones, and may wait for those to end ([`Claim::others_ended`]) without
//! ever waiting in a circle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::seen::Seen;

/// For how long a key is known.
pub const KEEP: Duration = Duration::from_secs(600);
/// Keys in a bucket: two cache lines of them. With four, one key in a thousand lost its place in a table
/// that was a fifth full, and a duplicate of it in a batch makes the batch's COPY fail.
const WAYS: usize = 8;

/// The first 64 bits of a payload's hash: enough to tell a conflict from a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortHash(u64);

impl From<Uuid> for ShortHash {
    fn from(hash: Uuid) -> Self {
        Self(hash.as_u64_pair().0)
    }
}

/// What is known of a key before its row is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is stored, with this payload.
    Stored(ShortHash),
    /// Another transaction of this process is inserting it.
    Contended,
    /// Most likely it was stored, some time ago.
    Seen,
    /// Nothing. Most likely it is new.
    Unknown,
}

/// The keys that a process knows; shared by its workers.
pub struct KnownKeys {
    state: Mutex<State>,
    /// Told whenever a claim has ended.
    ended: watch::Sender<()>,
}

struct State {
    epoch: u64,
    table: Table,
    /// What the table had to forget. Whatever the epoch: it only says what to look up.
    seen: Seen,
    /// What is being inserted, by claim; each list is sorted.
    in_flight: Vec<(u64, Arc<[Uuid]>)>,
    claims: u64,
}

impl KnownKeys {
    /// Room for about `keys` keys, at 28 bytes each, and for a filter of 8 bytes each; taken as it is filled.
    pub fn new(keys: usize) -> Self {
        let (table, seen) = (Table::new(keys), Seen::new(keys * 8));
        let state = State { epoch: 0, table, seen, in_flight: Vec::new(), claims: 0 };
        Self { state: Mutex::new(state), ended: watch::Sender::new(()) }
    }

    /// Looks keys up, which are sorted and unique, and notes that those that are not known to be stored are
    /// being inserted, until the claim is settled or dropped.
    pub fn claim(&self, epoch: u64, keys: &[Uuid]) -> Claim<'_> {
        let mut state = self.state();
        state.enter(epoch);
        let mut standings = vec![Standing::Unknown; keys.len()];
        if state.epoch == epoch {
            state.table.look_up(keys, &mut standings);
        }
        let State { seen, .. } = &*state;
        for (key, standing) in keys.iter().zip(&mut standings) {
            if *standing == Standing::Unknown && seen.contains(*key) {
                *standing = Standing::Seen;
            }
        }
        let in_the_way = |(_, others): &&(u64, Arc<[Uuid]>)| mark_contended(keys, others, &mut standings);
        let others = state.in_flight.iter().filter(in_the_way).map(|(id, _)| *id).collect();
        let inserting = keys.iter().zip(&standings).filter(|(_, standing)| !matches!(standing, Standing::Stored(_)));
        let inserting = inserting.map(|(key, _)| *key).collect();
        state.claims += 1;
        let id = state.claims;
        state.in_flight.push((id, inserting));
        Claim { known: self, id, epoch, standings, others }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A later epoch begins with nothing known.
    fn enter(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.table.distrust();
        }
    }
}

/// The keys of one batch while its transaction runs.
pub struct Claim<'k> {
    known: &'k KnownKeys,
    id: u64,
    epoch: u64,
    standings: Vec<Standing>,
    /// The claims that hold keys of this one.
    others: Vec<u64>,
}

impl Claim<'_> {
    /// What was known of each key, in the order they were given.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Waits until the transactions that were inserting `contended` keys have ended, but for no longer
    /// than `patience`; answers what is stored by then. Of other keys nothing is known: they were rolled
    /// back, or are still being inserted.
    pub async fn others_ended(&self, contended: &[Uuid], patience: Duration) -> Vec<Option<ShortHash>> {
        let mut ended = self.known.ended.subscribe();
        let others_ended = ended.wait_for(|()| {
            let state = self.known.state();
            !state.in_flight.iter().any(|(id, _)| self.others.contains(id))
        });
        // Late or not, the answer is what is known now.
        let _ = tokio::time::timeout(patience, others_ended).await;
        let mut standings = vec![Standing::Contended; contended.len()];
        let mut state = self.known.state();
        if state.epoch == self.epoch {
            state.table.look_up(contended, &mut standings);
        }
        let stored = |standing| if let Standing::Stored(hash) = standing { Some(hash) } else { None };
        standings.into_iter().map(stored).collect()
    }

    /// Learns what is stored, now that the transaction is committed.
    pub fn settle(self, stored: &[(Uuid, ShortHash)]) {
        let mut state = self.known.state();
        let State { epoch, table, seen, .. } = &mut *state;
        // What another epoch has seen may be gone.
        if *epoch == self.epoch {
            table.learn(stored, |forgotten| seen.add(forgotten));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.known.state().in_flight.retain(|(id, _)| *id != self.id);
        self.known.ended.send_replace(());
    }
}

/// Marks the keys that another sorted list holds too; answers whether there were any.
fn mark_contended(keys: &[Uuid], others: &[Uuid], standings: &mut [Standing]) -> bool {
    let mut others = others.iter().peekable();
    let mut any = false;
    for (key, standing) in keys.iter().zip(standings) {
        while others.next_if(|other| other.as_u128() < key.as_u128()).is_some() {}
        if others.peek() == Some(&key) && !matches!(standing, Standing::Stored(_)) {
            *standing = Standing::Contended;
            any = true;
        }
    }
    any
}

/// The table: arrays of numbers, so that the system hands out its memory page by page as it is used.
struct Table {
    keys: Vec<[u128; WAYS]>,
    hashes: Vec<[u64; WAYS]>,
    /// By [`Table::now`]; 0 where there is no key.
    learned: Vec<[u32; WAYS]>,
    began: Instant,
    /// How often all was distrusted, and when last.
    distrusted: (u32, u32),
}

impl Table {
    fn new(keys: usize) -> Self {
        let buckets = (keys / WAYS).max(1).next_power_of_two();
        Self {
            keys: vec![[0; WAYS]; buckets],
            hashes: vec![[0; WAYS]; buckets],
            learned: vec![[0; WAYS]; buckets],
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
        self.now().saturating_sub(KEEP.as_secs() as u32).max(self.distrusted.1)
    }

    fn bucket(&self, key: u128) -> usize {
        // As many of the first bits as number the buckets.
        (((key >> 64) * self.keys.len() as u128) >> 64) as usize
    }

    /// What is found is young again, as far as its place goes.
    fn look_up(&mut self, keys: &[Uuid], standings: &mut [Standing]) {
        let oldest = self.oldest();
        for (key, standing) in keys.iter().zip(standings) {
            let key = key.as_u128();
            let bucket = self.bucket(key);
            let way = self.keys[bucket].iter().position(|known| *known == key);
            let Some(way) = way else { continue };
            match self.learned[bucket][way] {
                0 => continue,
                learned if learned < oldest => {
                    *standing = Standing::Seen;
                    continue;
                }
                _ => {}
            }
            if way > 0 {
                self.keys[bucket][..=way].rotate_right(1);
                self.hashes[bucket][..=way].rotate_right(1);
                self.learned[bucket][..=way].rotate_right(1);
            }
            *standing = Standing::Stored(ShortHash(self.hashes[bucket][0]));
        }
    }

    fn learn(&mut self, stored: &[(Uuid, ShortHash)], mut forget: impl FnMut(Uuid)) {
        let (now, oldest) = (self.now(), self.oldest());
        for (key, hash) in stored {
            let key = key.as_u128();
            let bucket = self.bucket(key);
            let (keys, hashes, learned) = (&mut self.keys[bucket], &mut self.hashes[bucket], &mut self.learned[bucket]);
            // In its own place if it has one, else in that of the oldest, which is the last.
            let own = keys.iter().position(|known| *known == key);
            // Seen again is not read again: what is known of it is as old as it was.
            let since = own.map(|way| learned[way]).filter(|&learned| learned >= oldest).unwrap_or(now);
            let way = own.unwrap_or(WAYS - 1);
            if own.is_none() && learned[way] > 0 {
                forget(Uuid::from_u128(keys[way]));
            }
            keys.copy_within(..way, 1);
            hashes.copy_within(..way, 1);
            learned.copy_within(..way, 1);
            (keys[0], hashes[0], learned[0]) = (key, hash.0, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn hash(n: u64) -> ShortHash {
        ShortHash(n)
    }

    fn standings(known: &KnownKeys, epoch: u64, keys: &[Uuid]) -> Vec<Standing> {
        known.claim(epoch, keys).standings().to_vec()
    }

    #[test]
    fn a_key_is_known_once_its_transaction_is_committed_and_not_before() {
        let known = KnownKeys::new(64);
        let claim = known.claim(1, &[key(0), key(7)]);
        assert_eq!(claim.standings(), [Standing::Unknown; 2]);
        assert_eq!(
            standings(&known, 1, &[key(0), key(3), key(7)]),
            [Standing::Contended, Standing::Unknown, Standing::Contended]
        );
        claim.settle(&[(key(0), hash(5))]);
        assert_eq!(standings(&known, 1, &[key(0), key(7)]), [Standing::Stored(hash(5)), Standing::Unknown]);
    }

    #[test]
    fn a_key_is_forgotten_in_time_however_often_it_is_seen() {
        let known = KnownKeys::new(64);
        let seen = |seconds| {
            known.state().table.began -= Duration::from_secs(seconds);
            let claim = known.claim(1, &[key(7)]);
            let standing = claim.standings()[0];
            claim.settle(&[(key(7), hash(5))]);
            standing
        };
        let third = KEEP.as_secs() / 3;
        let stored = Standing::Stored(hash(5));
        assert_eq!([seen(0), seen(third), seen(third)], [Standing::Unknown, stored, stored]);
        assert_eq!([seen(third + 2), seen(third)], [Standing::Seen, stored]);
    }

    #[test]
    fn what_was_rolled_back_is_neither_known_nor_contended() {
        let known = KnownKeys::new(64);
        drop(known.claim(1, &[key(7)]));
        assert_eq!(standings(&known, 1, &[key(7)]), [Standing::Unknown]);
    }

    #[tokio::test]
    async fn a_claim_learns_what_older_claims_stored_once_they_have_ended() {
        let known = KnownKeys::new(64);
        let (stored, rolled_back) = (known.claim(1, &[key(1)]), known.claim(1, &[key(2)]));
        let claim = known.claim(1, &[key(1), key(2), key(3)]);
        let contended = [key(1), key(2)];
        let learned = claim.others_ended(&contended, Duration::from_secs(10));
        let ends = async {
            drop(rolled_back);
            tokio::task::yield_now().await;
            stored.settle(&[(key(1), hash(5))]);
        };
        assert_eq!(tokio::join!(learned, ends).0, [Some(hash(5)), None]);
        // Younger claims are not waited for, nor those that hold other keys.
        let _younger = known.claim(1, &[key(1), key(3)]);
        assert_eq!(claim.others_ended(&contended, Duration::MAX).await, [Some(hash(5)), None]);
    }

    #[tokio::test]
    async fn an_older_claim_that_does_not_end_is_waited_for_no_longer_than_said() {
        let known = KnownKeys::new(64);
        let _older = known.claim(1, &[key(1)]);
        let claim = known.claim(1, &[key(1)]);
        assert_eq!(claim.others_ended(&[key(1)], Duration::from_millis(1)).await, [None]);
    }

    #[tokio::test]
    async fn what_was_stored_in_another_epoch_is_not_learned() {
        let known = KnownKeys::new(64);
        let older = known.claim(2, &[key(1)]);
        let claim = known.claim(1, &[key(1)]);
        older.settle(&[(key(1), hash(5))]);
        assert_eq!(claim.others_ended(&[key(1)], Duration::MAX).await, [None]);
    }

    #[test]
    fn another_epoch_knows_nothing_of_what_was_before_it_and_looks_it_up() {
        let known = KnownKeys::new(64);
        known.claim(1, &[key(7)]).settle(&[(key(7), hash(5))]);
        let late = known.claim(1, &[key(8)]);
        assert_eq!(standings(&known, 2, &[key(7), key(8)]), [Standing::Seen, Standing::Contended]);
        late.settle(&[(key(8), hash(5))]);
        assert_eq!(standings(&known, 2, &[key(7), key(8)]), [Standing::Seen, Standing::Unknown]);
        known.claim(2, &[key(7)]).settle(&[(key(7), hash(6))]);
        assert_eq!(standings(&known, 2, &[key(7)]), [Standing::Stored(hash(6))]);
        // A connection of the past, still in use for a moment, is told nothing either.
        known.claim(2, &[key(9)]).settle(&[(key(9), hash(5))]);
        assert_eq!(standings(&known, 1, &[key(9)]), [Standing::Unknown]);
    }

    #[test]
    fn a_full_bucket_forgets_its_oldest_key_and_a_key_seen_again_is_young() {
        let known = KnownKeys::new(WAYS);
        let learn = |n: u128| known.claim(0, &[key(n)]).settle(&[(key(n), hash(n as u64))]);
        let last = WAYS as u128;
        (1..=last).for_each(learn);
        learn(1);
        learn(last + 1);
        let keys: Vec<_> = (1..=last + 1).map(key).collect();
        let stored = |n| if n == 2 { Standing::Seen } else { Standing::Stored(hash(n)) };
        assert_eq!(standings(&known, 0, &keys), (1..=last as u64 + 1).map(stored).collect::<Vec<_>>());
    }

    #[test]
    fn most_of_as_many_keys_as_there_is_room_for_are_known() {
        let known = KnownKeys::new(1 << 12);
        let mut keys: Vec<_> = (0..1u64 << 12).map(|n| Uuid::from_bytes(blake(n))).collect();
        keys.sort_unstable();
        let stored: Vec<_> = keys.iter().map(|&key| (key, hash(1))).collect();
        known.claim(0, &keys).settle(&stored);
        let known = standings(&known, 0, &keys).into_iter().filter(|s| *s == Standing::Stored(hash(1))).count();
        assert!(known > keys.len() * 4 / 5, "{known} of {}", keys.len());
    }

    #[test]
    fn hardly_a_key_of_a_table_that_is_half_full_is_forgotten() {
        let known = KnownKeys::new(1 << 16);
        let mut keys: Vec<_> = (0..1u64 << 15).map(|n| Uuid::from_bytes(blake(n))).collect();
        keys.sort_unstable();
        known.claim(0, &keys).settle(&keys.iter().map(|&key| (key, hash(1))).collect::<Vec<_>>());
        let forgotten = standings(&known, 0, &keys).into_iter().filter(|s| *s == Standing::Seen).count();
        assert!(forgotten < keys.len() / 50, "{forgotten} of {}", keys.len());
    }

    fn blake(n: u64) -> [u8; 16] {
        *sluice_event::key::hash128(&n.to_le_bytes()).as_bytes()
    }
}
