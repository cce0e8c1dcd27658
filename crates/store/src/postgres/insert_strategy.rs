//! The choice of the statements by which rows are inserted. Each of the four strategies is the fastest for
//! another kind of load:
//!
//! | strategy | suits |
//! |---|---|
//! | COPY | new keys: only the primary key's index checks them. One stored key fails the whole COPY |
//! | look up the keys that were stored before, COPY the others | keys that this process stored some time ago |
//! | look up all keys, COPY the others | keys that another replica stored, or this one before it started |
//! | INSERT … ON CONFLICT | keys that other replicas are inserting at the same time |
//!
//! The load of the next batch is not known, so the strategy follows from the last batches. A COPY that
//! fails is rolled back to a savepoint, and its rows are inserted by INSERT … ON CONFLICT instead. Whatever
//! the strategy, the primary key decides what is a duplicate. `docs/insert-strategy.md` describes the whole.
//!
//! Transactions wait for each other's keys, so all must insert keys in the same order to avoid deadlocks. A
//! batch with keys that another worker of this replica is inserting arrives here in two parts, with a pause
//! between them ([`crate::dedup_cache`]), which breaks that order. So batches are only divided while no
//! other replica inserts the same keys ([`InsertStrategies::may_pause`]); otherwise such a batch arrives as
//! a whole and is inserted by INSERT … ON CONFLICT.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_event::{EventKey, PayloadHash};

use super::connections::Lease;
use super::event_partitions::look_up;
use super::insert::BatchTarget;
use super::sqlstate::SqlState;
use super::{copy, insert};
use crate::partitions::{Layout, Loaded, Place, closed_places};
use crate::{Hint, Inserted, Row, StoreError};

/// Sets the savepoint that a failed COPY is rolled back to.
pub(super) const SAVEPOINT: &str = "SAVEPOINT before_copy";
const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT before_copy";
/// Batches in a row in which no looked-up key was stored, after which the look-up is skipped again. A needless
/// look-up costs a round trip; a COPY that fails because the look-up was skipped costs the rows sent so far, a
/// rollback and a second insertion. So several of the one are risked to avoid one of the other.
const QUIET_BATCHES: u32 = 8;
/// Batches for which a slower, safer strategy is used at least, after a faster one failed on a stored key:
/// as many as [`QUIET_BATCHES`], for the same reason. The number doubles each time that it happens again, as a
/// backoff, so that a load that mixes both kinds fails in a small share of its batches; it decays while the faster
/// strategy succeeds.
const MIN_STAY: u32 = QUIET_BATCHES;
/// The upper limit of that number: two or three million events in full batches, so that a load that has
/// changed gets the faster strategy again before long.
const MAX_STAY: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// COPY all rows.
    Copy,
    /// Look up the keys hinted as [`Hint::SeenBefore`], then COPY the rows that are not stored.
    LookUpHinted,
    /// Look up all keys, then COPY the rows that are not stored.
    LookUpAll,
    /// INSERT … ON CONFLICT for all rows.
    OnConflict,
}

/// The strategy for the next batch; shared by the workers of a replica.
#[derive(Debug, Default)]
pub(super) struct InsertStrategies {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    strategy: Strategy,
    /// Batches in a row in which no key was found stored that only the current strategy looks up.
    quiet: u32,
    /// Batches that are still to be inserted by INSERT … ON CONFLICT.
    on_conflict_left: u32,
    /// For how many quiet batches all keys are looked up.
    look_up_all_stay: u32,
    /// For how many batches INSERT … ON CONFLICT is used.
    on_conflict_stay: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            strategy: Strategy::Copy,
            quiet: 0,
            on_conflict_left: 0,
            look_up_all_stay: MIN_STAY,
            on_conflict_stay: MIN_STAY,
        }
    }
}

/// How many keys of a batch were found stored, by what was expected of them.
#[derive(Debug, Clone, Copy, Default)]
struct FoundStored {
    /// Of the keys hinted as [`Hint::SeenBefore`].
    hinted: usize,
    /// Of the keys hinted as [`Hint::New`].
    unexpected: usize,
}

impl InsertStrategies {
    /// Returns whether a batch may be inserted in two parts with a pause between them: no other replica
    /// inserts the same keys, as far as the last batches tell.
    pub fn may_pause(&self) -> bool {
        self.state().strategy != Strategy::OnConflict
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Chooses a safer strategy after a COPY failed on a stored key. If the key had not been looked up, it
    /// will be from now on; if it had been, another replica stored it in between.
    fn on_unique_violation(&mut self, used: Strategy) {
        self.quiet = 0;
        self.strategy = match used {
            Strategy::Copy => Strategy::LookUpHinted,
            Strategy::LookUpHinted => {
                self.look_up_all_stay = (self.look_up_all_stay * 2).min(MAX_STAY);
                Strategy::LookUpAll
            }
            Strategy::LookUpAll | Strategy::OnConflict => {
                self.on_conflict_left = self.on_conflict_stay;
                self.on_conflict_stay = (self.on_conflict_stay * 2).min(MAX_STAY);
                Strategy::OnConflict
            }
        };
    }

    /// Counts a batch that was inserted, and returns to a faster strategy after enough quiet ones.
    fn on_inserted(&mut self, found: FoundStored) {
        let decay = |stay: u32| MIN_STAY.max(stay - stay / 16);
        let (quiet, enough, faster) = match self.strategy {
            Strategy::Copy => {
                self.on_conflict_stay = decay(self.on_conflict_stay);
                return;
            }
            Strategy::LookUpHinted => {
                self.look_up_all_stay = decay(self.look_up_all_stay);
                (found.hinted + found.unexpected == 0, QUIET_BATCHES, Strategy::Copy)
            }
            Strategy::LookUpAll => (found.unexpected == 0, self.look_up_all_stay, Strategy::LookUpHinted),
            Strategy::OnConflict => {
                self.on_conflict_left = self.on_conflict_left.saturating_sub(1);
                if self.on_conflict_left == 0 {
                    (self.strategy, self.quiet) = (Strategy::LookUpAll, 0);
                }
                return;
            }
        };
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        if self.quiet >= enough {
            (self.strategy, self.quiet) = (faster, 0);
        }
    }
}

/// Inserts the rows of one batch by the strategy that suits.
pub(super) struct Inserter<'t> {
    pub lease: &'t mut Lease,
    pub strategies: &'t InsertStrategies,
    pub target: &'t BatchTarget,
    pub layout: &'t Layout,
    /// The filters of closed partitions.
    pub filters: &'t Loaded,
    /// Whether [`SAVEPOINT`] is set and nothing was written since.
    pub savepoint_set: bool,
    /// Collects the keys that were found stored, with the hashes of their payloads.
    pub found: &'t mut HashMap<EventKey, PayloadHash>,
}

impl Inserter<'_> {
    /// Inserts rows, which are sorted by key. Returns which were new.
    pub async fn insert(mut self, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        let any_contended = rows.iter().any(|row| row.hint == Hint::UseOnConflict);
        let strategy = if any_contended { Strategy::OnConflict } else { self.strategies.state().strategy };
        let in_closed = self.look_up(strategy, rows).await?;
        let absent: Vec<_> = rows.iter().filter(|row| !self.found.contains_key(&row.key)).copied().collect();
        let inserted = match strategy {
            Strategy::OnConflict => insert::events(self.lease, self.target, &absent).await,
            _ => self.copy_or_insert(strategy, &absent).await,
        };
        let inserted = inserted
            .map(|inserted| if self.found.is_empty() { inserted } else { Inserted::Keys(keys_of(inserted, &absent)) });
        match &inserted {
            Ok(inserted) if rows.iter().any(|row| row.hint != Hint::UseOnConflict) => {
                self.strategies.state().on_inserted(found_stored(rows, inserted, &in_closed));
            }
            // A deadlock with another replica, for example.
            Err(StoreError::Conflict(_) | StoreError::TooSlow(_)) => {
                self.strategies.state().on_unique_violation(Strategy::LookUpAll);
            }
            _ => {}
        }
        inserted
    }

    /// Looks keys up: all of them in those closed partitions that may have them, and in the open one those that the
    /// strategy says. Returns which are in closed ones.
    async fn look_up(&mut self, strategy: Strategy, rows: &[Row<'_>]) -> Result<HashSet<EventKey>, StoreError> {
        let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
        let mut places = closed_places(self.layout, self.filters, &keys);
        let wanted = |row: &&Row<'_>| match strategy {
            Strategy::Copy | Strategy::OnConflict => false,
            Strategy::LookUpHinted => row.hint == Hint::SeenBefore,
            Strategy::LookUpAll => true,
        };
        let wanted: Vec<_> = rows.iter().filter(wanted).map(|row| row.key).collect();
        // A filter is seldom wrong about a key that it has, so such a key is looked up in the open partition only if it was
        // not found. A place with all keys has no filter.
        let placed = places.iter().filter(|(_, placed)| placed.len() < keys.len()).flat_map(|(_, placed)| placed);
        let placed: HashSet<_> = placed.copied().collect();
        let (later, in_open): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|key| placed.contains(key));
        places.extend(in_open_partition(in_open));
        let mut found = look_up::find(self.lease, self.layout, self.filters, places).await?;
        self.found.extend(found.iter().map(|found| (found.key, found.payload_hash)));
        let later = later.into_iter().filter(|key| !self.found.contains_key(key)).collect();
        let more = look_up::find(self.lease, self.layout, self.filters, in_open_partition(later).collect()).await?;
        self.found.extend(more.iter().map(|found| (found.key, found.payload_hash)));
        found.retain(|found| found.partition.is_some());
        Ok(found.into_iter().map(|found| found.key).collect())
    }

    /// Inserts rows by COPY; by INSERT … ON CONFLICT if one of them is stored already.
    async fn copy_or_insert(&mut self, strategy: Strategy, rows: &[Row<'_>]) -> Result<Inserted, StoreError> {
        if self.copy(rows).await? {
            return Ok(Inserted::All);
        }
        self.strategies.state().on_unique_violation(strategy);
        insert::events(self.lease, self.target, rows).await
    }

    /// Inserts rows by COPY. Returns false if one of them is stored already; then none was inserted.
    async fn copy(&mut self, rows: &[Row<'_>]) -> Result<bool, StoreError> {
        if rows.is_empty() {
            return Ok(true);
        }
        if !self.savepoint_set {
            self.lease.run(SAVEPOINT).await?;
        }
        match copy::events(self.lease, self.target, rows).await {
            // The savepoint is released together with the transaction.
            Ok(()) => Ok(true),
            Err(error) if SqlState::of(&error) == Some(SqlState::UniqueViolation) => {
                self.lease.run(ROLLBACK).await?;
                Ok(false)
            }
            Err(error) => Err(self.lease.of_insert(error)),
        }
    }
}

/// Returns the open partition as the place of these keys; nothing if there are none.
fn in_open_partition(keys: Vec<EventKey>) -> impl Iterator<Item = Place> {
    Some((None, keys)).filter(|(_, keys)| !keys.is_empty()).into_iter()
}

/// Returns the keys of these rows that were inserted.
fn keys_of(inserted: Inserted, rows: &[Row<'_>]) -> HashSet<EventKey> {
    match inserted {
        Inserted::All => rows.iter().map(|row| row.key).collect(),
        Inserted::Keys(keys) => keys,
    }
}

/// Counts the rows that were stored before in the open partition: only these are found by the strategy.
fn found_stored(rows: &[Row<'_>], inserted: &Inserted, in_closed: &HashSet<EventKey>) -> FoundStored {
    let mut found = FoundStored::default();
    for row in rows.iter().filter(|row| !inserted.contains(&row.key) && !in_closed.contains(&row.key)) {
        match row.hint {
            Hint::New => found.unexpected += 1,
            Hint::SeenBefore => found.hinted += 1,
            Hint::UseOnConflict => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: FoundStored = FoundStored { hinted: 0, unexpected: 0 };
    const HINTED: FoundStored = FoundStored { hinted: 3, unexpected: 0 };
    const UNEXPECTED: FoundStored = FoundStored { hinted: 0, unexpected: 3 };

    /// Inserts batches that find these keys stored; returns the strategy after them.
    fn after(state: &mut State, batches: u32, found: FoundStored) -> Strategy {
        (0..batches).for_each(|_| state.on_inserted(found));
        state.strategy
    }

    #[test]
    fn a_failed_copy_leads_to_looking_up_hinted_keys_until_none_is_found_for_a_while() {
        let mut state = State::default();
        state.on_unique_violation(Strategy::Copy);
        assert_eq!(state.strategy, Strategy::LookUpHinted);
        assert_eq!(after(&mut state, QUIET_BATCHES - 1, NONE), Strategy::LookUpHinted);
        assert_eq!(after(&mut state, 1, HINTED), Strategy::LookUpHinted);
        assert_eq!(after(&mut state, QUIET_BATCHES - 1, NONE), Strategy::LookUpHinted);
        assert_eq!(after(&mut state, 1, NONE), Strategy::Copy);
    }

    #[test]
    fn an_unexpected_stored_key_leads_to_looking_up_all_for_longer_each_time() {
        let mut state = State::default();
        for stay in [MIN_STAY * 2, MIN_STAY * 4] {
            state.on_unique_violation(Strategy::LookUpHinted);
            assert_eq!(after(&mut state, stay - 1, HINTED), Strategy::LookUpAll);
            assert_eq!(after(&mut state, 1, UNEXPECTED), Strategy::LookUpAll);
            assert_eq!(after(&mut state, stay - 1, HINTED), Strategy::LookUpAll);
            assert_eq!(after(&mut state, 1, HINTED), Strategy::LookUpHinted);
        }
        assert_eq!(after(&mut state, 100, HINTED), Strategy::LookUpHinted);
        assert_eq!(state.look_up_all_stay, 15, "it has decayed to its lower limit, but for rounding");
    }

    #[test]
    fn a_key_stored_between_look_up_and_copy_leads_to_on_conflict_for_longer_each_time() {
        let mut state = State::default();
        for stay in [MIN_STAY, MIN_STAY * 2] {
            state.on_unique_violation(Strategy::LookUpAll);
            assert_eq!(after(&mut state, stay - 1, NONE), Strategy::OnConflict);
            assert_eq!(after(&mut state, 1, NONE), Strategy::LookUpAll);
        }
    }
}
