//! The verified tokens, so that a signature is verified once and not for every request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use sluice_event::Timestamp;

use super::key_set::KeySet;
use crate::Subject;

/// The bytes of all entries.
const MAX_BYTES: usize = 8 << 20;
/// What an entry takes beside the texts of its subject: key, subject, time, and the free places of the table.
const ENTRY_BYTES: usize = 256;

type Hash = [u8; 32];

/// Verified tokens, by their hashes, until they end. What was used least recently makes room.
pub(super) struct Cache {
    max_bytes: usize,
    state: Mutex<State>,
}

/// Entries are written to the young half. When it is full, it becomes the old half, and what was in that is forgotten;
/// an entry of the old half that is used becomes young again.
#[derive(Default)]
struct State {
    /// The keys with which the entries were verified.
    keys: Arc<KeySet>,
    young: HashMap<Hash, Entry>,
    old: HashMap<Hash, Entry>,
    young_bytes: usize,
}

#[derive(Clone)]
struct Entry {
    subject: Arc<Subject>,
    ends: Timestamp,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { max_bytes: MAX_BYTES, state: Mutex::default() }
    }

    /// Returns the subject of a token that these keys verified and that has not ended.
    pub(super) fn find(&self, token: &[u8], keys: &Arc<KeySet>, now: Timestamp) -> Option<Arc<Subject>> {
        let hash = hash(token);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&state.keys, keys) {
            return None;
        }
        if let Some(entry) = state.young.get(&hash) {
            return (now < entry.ends).then(|| entry.subject.clone());
        }
        let entry = state.old.remove(&hash).filter(|entry| now < entry.ends)?;
        let subject = entry.subject.clone();
        state.insert(hash, entry, self.max_bytes);
        Some(subject)
    }

    /// Remembers a token that was verified with these keys. Everything that other keys verified is forgotten: a key may
    /// have been withdrawn.
    pub(super) fn insert(&self, token: &[u8], keys: &Arc<KeySet>, subject: Arc<Subject>, ends: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&state.keys, keys) {
            *state = State { keys: keys.clone(), ..State::default() };
        }
        state.insert(hash(token), Entry { subject, ends }, self.max_bytes);
    }
}

impl State {
    fn insert(&mut self, hash: Hash, entry: Entry, max_bytes: usize) {
        let bytes = bytes(&entry.subject);
        if self.young_bytes + bytes > max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        // A subject that is larger than all of it is not remembered.
        if bytes <= max_bytes / 2 && self.young.insert(hash, entry).is_none() {
            self.young_bytes += bytes;
        }
    }
}

fn hash(token: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

fn bytes(subject: &Subject) -> usize {
    let patterns = subject.topics.patterns().unwrap_or_default();
    let topics: usize = patterns.iter().map(|pattern| pattern.as_str().len() + 48).sum();
    ENTRY_BYTES + subject.name.len() + topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topics;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn subject(name: &str) -> Arc<Subject> {
        Arc::new(Subject { name: name.into(), ..Subject::anyone() })
    }

    #[test]
    fn a_token_is_remembered_until_it_ends_or_the_keys_change() {
        let cache = Cache::new();
        let (keys, others) = (Arc::new(KeySet::default()), Arc::new(KeySet::default()));
        assert!(cache.find(b"a", &keys, at(0)).is_none());
        cache.insert(b"a", &keys, subject("shop"), at(10));
        assert_eq!(&*cache.find(b"a", &keys, at(9)).unwrap().name, "shop");
        assert!(cache.find(b"b", &keys, at(9)).is_none());
        assert!(cache.find(b"a", &keys, at(10)).is_none(), "it has ended");
        assert!(cache.find(b"a", &others, at(9)).is_none(), "other keys");
        cache.insert(b"b", &others, subject("shop"), at(10));
        assert!(cache.find(b"a", &keys, at(9)).is_none(), "the first keys are gone");
    }

    #[test]
    fn a_token_that_was_not_used_for_long_ends_too() {
        let keys = Arc::new(KeySet::default());
        let cache = Cache { max_bytes: 100 * ENTRY_BYTES, state: Mutex::default() };
        for (now, is_known) in [(9, true), (10, false)] {
            cache.insert(b"a", &keys, subject("shop"), at(10));
            // So many that it is among the old ones.
            while !cache.state.lock().unwrap().old.contains_key(&hash(b"a")) {
                let number = cache.state.lock().unwrap().young.len();
                cache.insert(format!("{now} {number}").as_bytes(), &keys, subject("n"), at(100));
            }
            assert_eq!(cache.find(b"a", &keys, at(now)).is_some(), is_known, "{now}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes_and_what_is_used_stays() {
        let keys = Arc::new(KeySet::default());
        let cache = Cache { max_bytes: 100 * ENTRY_BYTES, state: Mutex::default() };
        let patterns: Arc<[_]> = (0..100).map(|n| format!("{n}-{}", "x".repeat(1_000)).parse().unwrap()).collect();
        let large = Subject { topics: Topics::Only(patterns), ..Subject::anyone() };
        cache.insert(b"large", &keys, Arc::new(large), at(10));
        assert!(cache.find(b"large", &keys, at(0)).is_none(), "larger than the whole cache");
        cache.insert(b"used", &keys, subject("used"), at(10));
        for number in 0..10_000 {
            cache.insert(format!("t{number}").as_bytes(), &keys, subject("n"), at(10));
            assert!(cache.find(b"used", &keys, at(0)).is_some(), "after {number}");
        }
        let state = cache.state.lock().unwrap();
        let held: usize = state.young.values().chain(state.old.values()).map(|entry| bytes(&entry.subject)).sum();
        assert!(held <= cache.max_bytes && held > cache.max_bytes / 4, "{held} bytes");
    }
}
