//! Which resources nothing has happened to since they were last reconciled and found ready. The watches tell of every
//! change, so such a resource needs no request to the API server. In case a watch missed something, it is reconciled
//! nevertheless from time to time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The namespace and the name of a resource.
pub type Key = (String, String);

/// Changes of resources, of their objects and of the Secrets that they refer to.
#[derive(Debug, Default)]
pub struct Changes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The resources to which nothing has happened, each with the time until which that counts.
    settled: HashMap<Key, Instant>,
    /// The resources that are being reconciled, and whether something has happened to them meanwhile.
    running: HashMap<Key, bool>,
}

/// A reconcile that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Running<'a> {
    changes: &'a Changes,
    key: Key,
}

impl Changes {
    /// Records that something has happened to a resource.
    pub fn note(&self, key: &Key) {
        self.update(|state| {
            state.settled.remove(key);
            if let Some(changed) = state.running.get_mut(key) {
                *changed = true;
            }
        });
    }

    /// Records that anything may have happened to any resource: a watch begins anew, and does not tell what was deleted
    /// meanwhile.
    pub fn note_all(&self) {
        self.update(|state| {
            state.settled.clear();
            state.running.values_mut().for_each(|changed| *changed = true);
        });
    }

    /// Whether nothing has happened to a resource since it was settled, and that still counts.
    pub fn is_settled(&self, key: &Key, now: Instant) -> bool {
        self.update(|state| state.settled.get(key).is_some_and(|until| now < *until))
    }

    /// Records that a reconcile begins. A resource is never reconciled twice at the same time.
    pub fn begin(&self, key: Key) -> Running<'_> {
        self.update(|state| state.running.insert(key.clone(), false));
        Running { changes: self, key }
    }

    /// Settles a resource until a time, unless something has happened to it since its reconcile began.
    pub fn settle(&self, key: &Key, until: Instant) {
        self.update(|state| {
            if state.running.get(key) == Some(&false) {
                state.settled.insert(key.clone(), until);
            }
        });
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.changes.update(|state| state.running.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        ("accounts".to_owned(), name.to_owned())
    }

    /// Reconciles a resource, and does `meanwhile` during it.
    fn reconcile(changes: &Changes, name: &str, now: Instant, meanwhile: impl FnOnce()) {
        let _running = changes.begin(key(name));
        meanwhile();
        changes.settle(&key(name), now + Duration::from_secs(60));
    }

    #[test]
    fn a_resource_is_settled_until_something_happens_to_it_or_the_time_is_over() {
        let (changes, now) = (Changes::default(), Instant::now());
        assert!(!changes.is_settled(&key("a"), now));
        reconcile(&changes, "a", now, || {});
        reconcile(&changes, "b", now, || {});
        assert!(changes.is_settled(&key("a"), now) && changes.is_settled(&key("b"), now));
        changes.note(&key("a"));
        assert!(!changes.is_settled(&key("a"), now) && changes.is_settled(&key("b"), now));
        assert!(!changes.is_settled(&key("b"), now + Duration::from_secs(60)));
        changes.note_all();
        assert!(!changes.is_settled(&key("b"), now));
    }

    #[test]
    fn what_happens_during_a_reconcile_counts() {
        let (changes, now) = (Changes::default(), Instant::now());
        reconcile(&changes, "a", now, || changes.note(&key("a")));
        assert!(!changes.is_settled(&key("a"), now));
        reconcile(&changes, "a", now, || changes.note_all());
        assert!(!changes.is_settled(&key("a"), now));
        reconcile(&changes, "a", now, || changes.note(&key("b")));
        assert!(changes.is_settled(&key("a"), now));
    }
}
