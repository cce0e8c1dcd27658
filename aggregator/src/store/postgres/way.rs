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
//!
//! Transactions wait for each other's keys, so all must insert keys in one order, or they wait in a
//! circle. A batch with keys that another worker of this replica is inserting comes in two parts, with a
//! pause between them ([`crate::store::known`]), which breaks that order: it does so only where no other
//! replica gets in the way, and comes as a whole elsewhere, to go by ON CONFLICT.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::connections::Lease;
use super::errors::{of_insert, of_statement, within};
use super::insert::Into;
use super::{copy, insert};
use crate::store::{Inserted, Likely, Row, StoreError};

/// What a COPY that fails is rolled back to.
pub(super) const SAVEPOINT: &str = "SAVEPOINT copied";
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
    /// Whether no other replica gets in the way, as far as the last batches tell.
    pub fn alone(&self) -> bool {
        self.state().way != Way::OnConflict
    }

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

    /// A batch was inserted, of whose unknown keys so many turned out to be stored.
    fn went(&mut self, stored: usize) {
        match self.way {
            Way::Copy => self.stay = FIRST_STAY.max(self.stay - self.stay / 16),
            Way::LookUpThenCopy => {
                self.calm = if stored == 0 { self.calm + 1 } else { 0 };
                if self.calm >= CALM {
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

/// Inserts rows, which are sorted by key. [`SAVEPOINT`] may have been set before, and nothing have been
/// written since: `marked`. Keys that were found stored are added to `found`, with the hashes of their
/// payloads.
pub(super) async fn insert(
    lease: &mut Lease,
    ways: &Ways,
    into: Into,
    marked: bool,
    rows: &[Row<'_>],
    found: &mut HashMap<Uuid, Uuid>,
) -> Result<Inserted, StoreError> {
    let any_contended = rows.iter().any(|row| row.likely == Likely::Stored);
    let way = if any_contended { Way::OnConflict } else { ways.state().way };
    let inserted = match way {
        Way::OnConflict => insert::events(lease, into, rows).await,
        Way::LookUpThenCopy => {
            found.extend(stored(lease, rows.iter().map(|row| row.key).collect()).await?);
            let rows: Vec<_> = rows.iter().filter(|row| !found.contains_key(&row.key)).copied().collect();
            let inserted = copy_or_insert(lease, ways, way, into, marked, &rows).await;
            inserted.map(|inserted| if found.is_empty() { inserted } else { Inserted::Keys(keys_of(inserted, &rows)) })
        }
        Way::Copy => copy_or_insert(lease, ways, way, into, marked, rows).await,
    };
    match &inserted {
        Ok(inserted) => {
            let mut unknown = rows.iter().filter(|row| row.likely == Likely::New).peekable();
            if unknown.peek().is_some() {
                ways.state().went(unknown.filter(|row| !inserted.contains(&row.key)).count());
            }
        }
        // In a circle, for one.
        Err(StoreError::Conflict(_)) => ways.state().violated(Way::LookUpThenCopy),
        Err(_) => {}
    }
    inserted
}

/// Copies rows; inserts them where the COPY meets a stored key.
async fn copy_or_insert(
    lease: &mut Lease,
    ways: &Ways,
    way: Way,
    into: Into,
    marked: bool,
    rows: &[Row<'_>],
) -> Result<Inserted, StoreError> {
    if copied(lease, into, marked, rows).await? {
        return Ok(Inserted::All);
    }
    ways.state().violated(way);
    insert::events(lease, into, rows).await
}

/// The keys that were inserted of these rows.
fn keys_of(inserted: Inserted, rows: &[Row<'_>]) -> HashSet<Uuid> {
    match inserted {
        Inserted::All => rows.iter().map(|row| row.key).collect(),
        Inserted::Keys(keys) => keys,
    }
}

/// The keys that are stored already, with the hashes of their payloads.
pub(super) async fn stored(lease: &mut Lease, keys: Vec<Uuid>) -> Result<HashMap<Uuid, Uuid>, StoreError> {
    let select = sqlx::query_as("SELECT key, payload_hash FROM events WHERE key = ANY($1)").bind(keys);
    let stored: Result<Vec<(Uuid, Uuid)>, _> = within(lease.deadline(), select.fetch_all(&mut **lease)).await;
    stored.map(|rows| rows.into_iter().collect()).map_err(of_statement)
}

/// Copies rows; false when one of them is stored already, and then nothing was inserted.
async fn copied(lease: &mut Lease, into: Into, marked: bool, rows: &[Row<'_>]) -> Result<bool, StoreError> {
    if rows.is_empty() {
        return Ok(true);
    }
    if !marked {
        lease.run(SAVEPOINT).await?;
    }
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

    /// Violations are by the way that met them; other steps are the number of keys found stored.
    fn after(steps: &[Result<usize, Way>]) -> Way {
        let mut state = State::default();
        for step in steps {
            match step {
                Ok(stored) => state.went(*stored),
                Err(way) => state.violated(*way),
            }
        }
        state.way
    }

    #[test]
    fn a_violated_copy_leads_to_looking_keys_up_until_none_is_found_for_a_while() {
        let calm = [Ok(0); CALM as usize - 1];
        let mut steps = vec![Err(Way::Copy)];
        assert_eq!(after(&steps), Way::LookUpThenCopy);
        steps.extend(calm);
        steps.push(Ok(3));
        steps.extend(calm);
        assert_eq!(after(&steps), Way::LookUpThenCopy);
        steps.push(Ok(0));
        assert_eq!(after(&steps), Way::Copy);
    }

    #[test]
    fn a_key_stored_between_look_up_and_copy_leads_to_on_conflict_for_longer_each_time() {
        let mut state = State::default();
        for stay in [FIRST_STAY, FIRST_STAY * 2] {
            state.violated(Way::LookUpThenCopy);
            for _ in 0..stay {
                assert_eq!(state.way, Way::OnConflict);
                state.went(0);
            }
            assert_eq!(state.way, Way::LookUpThenCopy);
        }
    }
}
