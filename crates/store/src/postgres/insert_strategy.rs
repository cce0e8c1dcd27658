//! Which way rows are inserted. Four strategies, each the quickest for another kind of load:
//!
//! | way | for |
//! |---|---|
//! | COPY | new keys: nothing is looked up but by the index itself. One stored key fails all of it |
//! | look up the keys seen before, COPY the others | keys that this process stored some time ago |
//! | look all keys up, COPY the others | keys that were stored before it started, or by another replica |
//! | INSERT … ON CONFLICT | keys that other replicas are inserting at this moment |
//!
//! Nothing tells beforehand which kind is coming, so it goes by what the last batches met, and a
//! failed COPY is rolled back to a savepoint and made up for by INSERT … ON CONFLICT.
//!
//! Transactions wait for each other's keys, so all must insert keys in one order, or they wait in a
//! circle. A batch with keys that another worker of this replica is inserting comes in two parts, with a
//! pause between them ([`crate::dedup_cache`]), which breaks that order: it does so only where no other
//! replica gets in the strategy, and comes as a whole elsewhere, to go by ON CONFLICT.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_event::{EventKey, PayloadHash};

use super::connections::Lease;
use super::errors::{of_insert, of_statement, within};
use super::insert::BatchTarget;
use super::{copy, insert};
use crate::{Hint, Inserted, Row, StoreError};

/// What a COPY that fails is rolled back to.
pub(super) const SAVEPOINT: &str = "SAVEPOINT copied";
/// Unique violation.
const VIOLATED: &str = "23505";
/// Batches without a stored key, after which keys are no longer looked up first.
const CALM: u32 = 8;
/// Batches for which a way is kept that is safe where a quicker one met a stored key; twice as many each
/// time that it does again.
const FIRST_STAY: u32 = 8;
const LONGEST_STAY: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Copy,
    LookUpSeen,
    LookUpAll,
    OnConflict,
}

/// What the last batches met; shared by the workers of a replica.
#[derive(Debug, Default)]
pub(super) struct InsertStrategies {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    strategy: Strategy,
    /// Batches in a row in which no key was found stored that this way has to look up.
    calm: u32,
    /// Batches that are still to go by INSERT … ON CONFLICT.
    left: u32,
    /// For how many batches all keys are looked up at least.
    stay_looking: u32,
    /// For how many batches INSERT … ON CONFLICT is used.
    stay_on_conflict: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { strategy: Strategy::Copy, calm: 0, left: 0, stay_looking: FIRST_STAY, stay_on_conflict: FIRST_STAY }
    }
}

/// How many of a batch's keys were found stored.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Of those seen before.
    seen: usize,
    /// Of the others.
    unknown: usize,
}

impl InsertStrategies {
    /// Whether no other replica gets in the strategy, as far as the last batches tell.
    pub fn alone(&self) -> bool {
        self.state().strategy != Strategy::OnConflict
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A COPY met a stored key. Where that was not looked for, it is from now on; where it was, the
    /// key was stored in between.
    fn violated(&mut self, strategy: Strategy) {
        self.calm = 0;
        self.strategy = match strategy {
            Strategy::Copy => Strategy::LookUpSeen,
            Strategy::LookUpSeen => {
                self.stay_looking = (self.stay_looking * 2).min(LONGEST_STAY);
                Strategy::LookUpAll
            }
            Strategy::LookUpAll | Strategy::OnConflict => {
                self.left = self.stay_on_conflict;
                self.stay_on_conflict = (self.stay_on_conflict * 2).min(LONGEST_STAY);
                Strategy::OnConflict
            }
        };
    }

    /// A batch was inserted, of whose keys so many turned out to be stored.
    fn went(&mut self, found: Found) {
        let decay = |stay: u32| FIRST_STAY.max(stay - stay / 16);
        let (needless, enough) = match self.strategy {
            Strategy::Copy => {
                self.stay_on_conflict = decay(self.stay_on_conflict);
                return;
            }
            Strategy::LookUpSeen => {
                self.stay_looking = decay(self.stay_looking);
                (found.seen + found.unknown == 0, CALM)
            }
            Strategy::LookUpAll => (found.unknown == 0, self.stay_looking),
            Strategy::OnConflict => {
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    (self.strategy, self.calm) = (Strategy::LookUpAll, 0);
                }
                return;
            }
        };
        self.calm = if needless { self.calm + 1 } else { 0 };
        if self.calm >= enough {
            self.strategy = if self.strategy == Strategy::LookUpAll { Strategy::LookUpSeen } else { Strategy::Copy };
            self.calm = 0;
        }
    }
}

/// Inserts rows, which are sorted by key. [`SAVEPOINT`] may have been set before, and nothing have been
/// written since: `savepoint_set`. Keys that were found stored are added to `found`, with the hashes of their
/// payloads.
pub(super) async fn insert(
    lease: &mut Lease,
    strategies: &InsertStrategies,
    target: BatchTarget,
    savepoint_set: bool,
    rows: &[Row<'_>],
    found: &mut HashMap<EventKey, PayloadHash>,
) -> Result<Inserted, StoreError> {
    let any_contended = rows.iter().any(|row| row.hint == Hint::UseOnConflict);
    let strategy = if any_contended { Strategy::OnConflict } else { strategies.state().strategy };
    let inserted = match strategy {
        Strategy::OnConflict => insert::events(lease, target, rows).await,
        Strategy::Copy => copy_or_insert(lease, strategies, strategy, target, savepoint_set, rows).await,
        Strategy::LookUpSeen | Strategy::LookUpAll => {
            let to_look_up = rows.iter().filter(|row| strategy == Strategy::LookUpAll || row.hint == Hint::SeenBefore);
            found.extend(stored(lease, to_look_up.map(|row| row.key).collect()).await?);
            let rows: Vec<_> = rows.iter().filter(|row| !found.contains_key(&row.key)).copied().collect();
            let inserted = copy_or_insert(lease, strategies, strategy, target, savepoint_set, &rows).await;
            inserted.map(|inserted| if found.is_empty() { inserted } else { Inserted::Keys(keys_of(inserted, &rows)) })
        }
    };
    match &inserted {
        Ok(inserted) if rows.iter().any(|row| row.hint != Hint::UseOnConflict) => {
            let mut found = Found::default();
            for row in rows.iter().filter(|row| !inserted.contains(&row.key)) {
                match row.hint {
                    Hint::New => found.unknown += 1,
                    Hint::SeenBefore => found.seen += 1,
                    Hint::UseOnConflict => {}
                }
            }
            strategies.state().went(found);
        }
        // In a circle, for one.
        Err(StoreError::Conflict(_)) => strategies.state().violated(Strategy::LookUpAll),
        _ => {}
    }
    inserted
}

/// Copies rows; inserts them where the COPY meets a stored key.
async fn copy_or_insert(
    lease: &mut Lease,
    strategies: &InsertStrategies,
    strategy: Strategy,
    target: BatchTarget,
    savepoint_set: bool,
    rows: &[Row<'_>],
) -> Result<Inserted, StoreError> {
    if copied(lease, target, savepoint_set, rows).await? {
        return Ok(Inserted::All);
    }
    strategies.state().violated(strategy);
    insert::events(lease, target, rows).await
}

/// The keys that were inserted of these rows.
fn keys_of(inserted: Inserted, rows: &[Row<'_>]) -> HashSet<EventKey> {
    match inserted {
        Inserted::All => rows.iter().map(|row| row.key).collect(),
        Inserted::Keys(keys) => keys,
    }
}

/// The keys that are stored already, with the hashes of their payloads.
pub(super) async fn stored(
    lease: &mut Lease,
    keys: Vec<EventKey>,
) -> Result<HashMap<EventKey, PayloadHash>, StoreError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let select = sqlx::query_as("SELECT key, payload_hash FROM events WHERE key = ANY($1)").bind(keys);
    let stored: Result<Vec<(EventKey, PayloadHash)>, _> =
        within(lease.deadline(), select.fetch_all(&mut **lease)).await;
    stored.map(|rows| rows.into_iter().collect()).map_err(of_statement)
}

/// Copies rows; false when one of them is stored already, and then nothing was inserted.
async fn copied(
    lease: &mut Lease,
    target: BatchTarget,
    savepoint_set: bool,
    rows: &[Row<'_>],
) -> Result<bool, StoreError> {
    if rows.is_empty() {
        return Ok(true);
    }
    if !savepoint_set {
        lease.run(SAVEPOINT).await?;
    }
    match copy::events(lease, target, rows).await {
        // Released with the transaction.
        Ok(()) => Ok(true),
        Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some(VIOLATED)) => {
            lease.run("ROLLBACK TO SAVEPOINT copied").await?;
            Ok(false)
        }
        Err(error) => Err(of_insert(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Found = Found { seen: 0, unknown: 0 };
    const SEEN: Found = Found { seen: 3, unknown: 0 };
    const UNKNOWN: Found = Found { seen: 0, unknown: 3 };

    fn go(state: &mut State, times: u32, found: Found) -> Strategy {
        (0..times).for_each(|_| state.went(found));
        state.strategy
    }

    #[test]
    fn a_violated_copy_leads_to_looking_up_what_was_seen_until_nothing_is_found_for_a_while() {
        let mut state = State::default();
        state.violated(Strategy::Copy);
        assert_eq!(state.strategy, Strategy::LookUpSeen);
        assert_eq!(go(&mut state, CALM - 1, NONE), Strategy::LookUpSeen);
        assert_eq!(go(&mut state, 1, SEEN), Strategy::LookUpSeen);
        assert_eq!(go(&mut state, CALM - 1, NONE), Strategy::LookUpSeen);
        assert_eq!(go(&mut state, 1, NONE), Strategy::Copy);
    }

    #[test]
    fn a_stored_key_that_was_not_seen_leads_to_looking_up_all_for_longer_each_time() {
        let mut state = State::default();
        for stay in [FIRST_STAY * 2, FIRST_STAY * 4] {
            state.violated(Strategy::LookUpSeen);
            assert_eq!(go(&mut state, stay - 1, SEEN), Strategy::LookUpAll);
            assert_eq!(go(&mut state, 1, UNKNOWN), Strategy::LookUpAll);
            assert_eq!(go(&mut state, stay - 1, SEEN), Strategy::LookUpAll);
            assert_eq!(go(&mut state, 1, SEEN), Strategy::LookUpSeen);
        }
        assert_eq!(go(&mut state, 100, SEEN), Strategy::LookUpSeen);
        assert_eq!(state.stay_looking, 15, "as good as at the beginning");
    }

    #[test]
    fn a_key_stored_between_look_up_and_copy_leads_to_on_conflict_for_longer_each_time() {
        let mut state = State::default();
        for stay in [FIRST_STAY, FIRST_STAY * 2] {
            state.violated(Strategy::LookUpAll);
            assert_eq!(go(&mut state, stay - 1, NONE), Strategy::OnConflict);
            assert_eq!(go(&mut state, 1, NONE), Strategy::LookUpAll);
        }
    }
}
