//! Restarts the servers of one resource after another when a change is not that of a resource: an upgrade of the operator
//! changes the managed Redis and PostgreSQL of every resource at once, and each is down while it restarts.
//!
//! What a user changes in a resource is never held back. A resource whose servers do not become ready again holds up the
//! others for [`LONGEST`].

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long servers that do not become ready hold up those of other resources.
pub const LONGEST: Duration = Duration::from_secs(600);

/// The resources whose servers restart, and those that wait for it.
#[derive(Debug)]
pub struct ServerRestarts {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the uid of the resource: its name, and since when its servers restart.
    restarting: HashMap<String, (String, Instant)>,
    /// The uids of resources that wait.
    waiting: HashSet<String>,
}

impl State {
    /// Returns the resources that hold up others, with their names.
    fn holding<'a>(&'a self, uid: &'a str, now: Instant) -> impl Iterator<Item = &'a String> {
        let holds = move |(_, since): &&(String, Instant)| now.saturating_duration_since(*since) < LONGEST;
        let others = self.restarting.iter().filter(move |(other, _)| *other != uid);
        others.map(|(_, restart)| restart).filter(holds).map(|(name, _)| name)
    }
}

impl ServerRestarts {
    /// Lets the servers of at most `limit` resources restart at the same time.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the servers of a resource restart, whatever others do.
    pub fn restarts(&self, uid: &str, name: &str, now: Instant) {
        let mut state = self.state();
        state.waiting.remove(uid);
        state.restarting.entry(uid.to_owned()).or_insert_with(|| (name.to_owned(), now));
    }

    /// Notes that the servers of a resource may restart, or returns the name of a resource that it waits for.
    pub fn ask(&self, uid: &str, name: &str, now: Instant) -> Option<String> {
        let mut state = self.state();
        let has_turn = state.restarting.contains_key(uid);
        let first = (!has_turn && state.holding(uid, now).count() >= self.limit)
            .then(|| state.holding(uid, now).min().cloned().unwrap_or_default());
        match first {
            Some(other) => {
                state.waiting.insert(uid.to_owned());
                Some(other)
            }
            None => {
                state.waiting.remove(uid);
                state.restarting.entry(uid.to_owned()).or_insert_with(|| (name.to_owned(), now));
                None
            }
        }
    }

    /// Gives a resource that waits its turn, if it has come. The caller then has it reconciled.
    pub fn take_turn(&self, uid: &str, name: &str, now: Instant) -> bool {
        let mut state = self.state();
        let come = state.waiting.contains(uid) && state.holding(uid, now).count() < self.limit;
        if come {
            state.waiting.remove(uid);
            state.restarting.insert(uid.to_owned(), (name.to_owned(), now));
        }
        come
    }

    /// Notes that all servers of a resource run as they should.
    pub fn done(&self, uid: &str) {
        let mut state = self.state();
        state.restarting.remove(uid);
        state.waiting.remove(uid);
    }

    /// Forgets resources that no longer exist.
    pub fn forget<'a>(&self, uids: impl Iterator<Item = &'a String>) {
        uids.for_each(|uid| self.done(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_restart_one_after_another_and_a_stuck_one_does_not_stop_the_others_for_ever() {
        let (restarts, began) = (ServerRestarts::new(1), Instant::now());
        assert_eq!(restarts.ask("a", "shop/a", began), None);
        assert_eq!(restarts.ask("a", "shop/a", began), None, "it has its turn");
        assert_eq!(restarts.ask("b", "shop/b", began), Some("shop/a".to_owned()));
        assert!(!restarts.take_turn("b", "shop/b", began));
        assert!(!restarts.take_turn("c", "shop/c", began + LONGEST), "it does not wait");
        assert!(restarts.take_turn("b", "shop/b", began + LONGEST));
        assert_eq!(restarts.ask("c", "shop/c", began + LONGEST), Some("shop/b".to_owned()));
        restarts.done("b");
        assert_eq!(restarts.ask("c", "shop/c", began + LONGEST), None);
    }

    #[test]
    fn a_turn_is_given_to_one_resource_that_waits_and_not_to_all() {
        let (restarts, now) = (ServerRestarts::new(2), Instant::now());
        restarts.restarts("a", "shop/a", now);
        restarts.restarts("b", "shop/b", now);
        restarts.restarts("c", "shop/c", now);
        for waiting in ["d", "e"] {
            assert!(restarts.ask(waiting, waiting, now).is_some());
        }
        restarts.forget(["a".to_owned(), "b".to_owned()].iter());
        assert!(restarts.take_turn("e", "e", now));
        assert!(!restarts.take_turn("d", "d", now));
        assert_eq!(restarts.ask("e", "e", now), None);
    }
}
