//! Isolation of the rows that a store refuses: bisection under savepoints inside the batch's transaction, so
//! that receipts, accepted events and dead letters are still committed together.

use std::collections::HashSet;

use sluice_event::EventKey;

use super::{Inserted, Row, StoreError, Transaction};

/// A row that the store refuses.
pub(super) struct Refused {
    /// Its index in the rows to insert.
    pub index: usize,
    /// The database's error code.
    pub code: String,
    /// The database's error message.
    pub message: String,
}

/// Inserts the rows that the store accepts. Returns the keys that were new, and the refused rows. `rows` are
/// sorted by key.
pub(super) async fn insert(
    transaction: &mut dyn Transaction,
    rows: &[Row<'_>],
) -> Result<(HashSet<EventKey>, Vec<Refused>), StoreError> {
    let mut inserted = HashSet::new();
    let mut refused = Vec::new();
    // Ranges still to insert, the next one last; in key order, which is the order of the locks.
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
