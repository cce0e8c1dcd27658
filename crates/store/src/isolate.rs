//! Finding the rows that a store refuses: bisection under savepoints inside the one transaction,
//! so that receipts, good events and dead letters still commit together.

use std::collections::HashSet;

use sluice_event::EventKey;

use super::{Inserted, Row, StoreError, Transaction};

/// A row refused on its own.
pub(super) struct Refused {
    /// Its index in what was to be inserted.
    pub index: usize,
    /// The database's code.
    pub code: String,
    /// What the database says.
    pub message: String,
}

/// Inserts what the store takes and names what it refuses. `rows` are sorted by key.
pub(super) async fn insert(
    transaction: &mut dyn Transaction,
    rows: &[Row<'_>],
) -> Result<(HashSet<EventKey>, Vec<Refused>), StoreError> {
    let mut inserted = HashSet::new();
    let mut refused = Vec::new();
    // Halves still to be tried, the next one last; in order, since rows are locked in key order.
    let whole = 0..rows.len();
    let mut ranges = vec![whole];
    while let Some(range) = ranges.pop() {
        if range.is_empty() {
            continue;
        }
        transaction.savepoint().await?;
        match transaction.insert_events(&rows[range.clone()]).await {
            Ok(Inserted::All) => inserted.extend(rows[range].iter().map(|row| row.key)),
            Ok(Inserted::Keys(keys)) => inserted.extend(keys),
            Err(StoreError::Refused { code, message }) => {
                transaction.rollback_to_savepoint().await?;
                if range.len() == 1 {
                    refused.push(Refused { index: range.start, code, message });
                } else {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                continue;
            }
            Err(other) => return Err(other),
        }
        transaction.release_savepoint().await?;
    }
    Ok((inserted, refused))
}
