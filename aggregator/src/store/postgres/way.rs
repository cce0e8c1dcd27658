//! Which way rows are inserted. Three ways, each the quickest for another kind of load:
//!
//! | way | for |
//! |---|---|
//! | COPY | new keys: nothing is looked up but by the index itself. One stored key fails all of it |
//! | look the keys up, COPY the others | keys that were stored long ago, or by another replica |
//! | INSERT … ON CONFLICT | keys that other replicas are inserting at this moment |
//!
//! Nothing tells beforehand which kind is coming, so it goes by what the last batches met, and a
//! failed COPY is rolled back to a savepoint and made up for by INSERT … ON CONFLICT.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::connections::Lease;
use super::errors::{of_insert, of_statement, within};
use super::insert::Into;
use super::{copy, insert};
use crate::store::{Inserted, Row, StoreError};

/// Unique violation.
const VIOLATED: &str = "23505";
/// Batches without a stored key, after which keys are no longer looked up first.
const CALM: u32 = 8;
/// Batches for which INSERT … ON CONFLICT is used after another transaction was in the way; twice
/// as many each time that it is again.
const FIRST_STAY: u32 = 8;
const LONGEST_STAY: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy,
    LookUpThenCopy,
    OnConflict,
}

/// What the last batches met; shared by the workers of a replica.
#[derive(Debug, Default)]
pub(super) struct Ways {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    way: Way,
    /// Batches in a row in which no key was found stored.
    calm: u32,
    /// Batches that are still to go by INSERT … ON CONFLICT.
    left: u32,
    stay: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { way: Way::Copy, calm: 0, left: 0, stay: FIRST_STAY }
    }
}

impl Ways {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A COPY met a stored key. Where that was not looked for, it is from now on; where it was, the
    /// key was stored in between.
    fn violated(&mut self, way: Way) {
        self.calm = 0;
        match way {
            Way::Copy => self.way = Way::LookUpThenCopy,
            Way::LookUpThenCopy | Way::OnConflict => {
                self.way = Way::OnConflict;
                self.left = self.stay;
                self.stay = (self.stay * 2).min(LONGEST_STAY);
            }
        }
    }

    /// A batch went its way.
    fn went(&mut self, way: Way, stored: usize) {
        match way {
            Way::Copy => self.stay = FIRST_STAY.max(self.stay - self.stay / 16),
            Way::LookUpThenCopy => {
                self.calm = if stored == 0 { self.calm + 1 } else { 0 };
                if self.calm >= CALM && self.way == Way::LookUpThenCopy {
                    self.way = Way::Copy;
                }
            }
            Way::OnConflict => {
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    (self.way, self.calm) = (Way::LookUpThenCopy, 0);
                }
            }
        }
    }
}

/// Inserts rows whose keys are most likely new, in the order given.
pub(super) async fn insert(
    lease: &mut Lease,
    ways: &Ways,
    into: Into,
    rows: &[Row<'_>],
) -> Result<Inserted, StoreError> {
    let way = ways.state().way;
    let stored = match way {
        Way::OnConflict => {
            let inserted = insert::events(lease, into, rows).await?;
            ways.state().went(way, 0);
            return Ok(inserted);
        }
        Way::LookUpThenCopy => stored(lease, rows).await?,
        Way::Copy => HashSet::new(),
    };
    let others: Vec<_>;
    let new = if stored.is_empty() {
        rows
    } else {
        others = rows.iter().filter(|row| !stored.contains(&row.key)).copied().collect();
        &others
    };
    if !copied(lease, into, new).await? {
        ways.state().violated(way);
        return insert::events(lease, into, rows).await;
    }
    ways.state().went(way, stored.len());
    Ok(if stored.is_empty() { Inserted::All } else { Inserted::Keys(new.iter().map(|row| row.key).collect()) })
}

/// The keys that are stored already.
async fn stored(lease: &mut Lease, rows: &[Row<'_>]) -> Result<HashSet<Uuid>, StoreError> {
    let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
    let select = sqlx::query_scalar("SELECT key FROM events WHERE key = ANY($1)").bind(keys);
    let stored: Result<Vec<Uuid>, _> = within(lease.deadline(), select.fetch_all(&mut **lease)).await;
    stored.map(|keys| keys.into_iter().collect()).map_err(of_statement)
}

/// Copies rows; false when one of them is stored already, and then nothing was inserted.
async fn copied(lease: &mut Lease, into: Into, rows: &[Row<'_>]) -> Result<bool, StoreError> {
    if rows.is_empty() {
        return Ok(true);
    }
    lease.run("SAVEPOINT copied").await?;
    match copy::events(lease, into, rows).await {
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

    fn after(steps: &[(bool, Way, usize)]) -> Way {
        let mut state = State::default();
        for &(violated, way, stored) in steps {
            if violated { state.violated(way) } else { state.went(way, stored) }
        }
        state.way
    }

    #[test]
    fn a_violated_copy_leads_to_looking_keys_up_until_none_is_found_for_a_while() {
        let violated = (true, Way::Copy, 0);
        let calm = (false, Way::LookUpThenCopy, 0);
        assert_eq!(after(&[violated]), Way::LookUpThenCopy);
        let mut steps = vec![violated];
        steps.extend([calm; CALM as usize - 1]);
        assert_eq!(after(&steps), Way::LookUpThenCopy);
        steps.push((false, Way::LookUpThenCopy, 3));
        steps.extend([calm; CALM as usize - 1]);
        assert_eq!(after(&steps), Way::LookUpThenCopy);
        steps.push(calm);
        assert_eq!(after(&steps), Way::Copy);
    }

    #[test]
    fn a_key_stored_between_look_up_and_copy_leads_to_on_conflict_for_longer_each_time() {
        let mut state = State::default();
        for stay in [FIRST_STAY, FIRST_STAY * 2] {
            state.violated(Way::LookUpThenCopy);
            for _ in 0..stay {
                assert_eq!(state.way, Way::OnConflict);
                state.went(Way::OnConflict, 0);
            }
            assert_eq!(state.way, Way::LookUpThenCopy);
        }
    }
}
