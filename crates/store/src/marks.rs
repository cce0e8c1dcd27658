//! The numbers of commits, by which a store that has lost commits is noticed ([`sluice_log::replay`]).
//!
//! A worker numbers its commits: the store gives the number in the transaction, and remembers the last one. The loss of
//! a commit is noticed in three ways. Before the first commit on each connection all marks of the log are compared with
//! those of the store behind this connection. In every commit the store compares the numbers that this process knows to
//! be confirmed: a pooler may change the server without a new connection. And [`MarkedStore::marks`] is compared
//! periodically, and before anything is given up that a replay would need.

use std::time::Duration;

use async_trait::async_trait;
use sluice_log::replay::Marks;

pub use crate::numbering::{ConfirmedCommits, Number, Numbering, StoredMarks};
use crate::{StoreError, Transaction};

/// Compares the marks of the log with those of the store behind a connection that has not been compared yet. The log's
/// are read first, so that a commit of another worker in between is no false alarm.
///
/// # Errors
/// [`StoreError::Behind`] if the store has lost commits or is getting them again.
pub(crate) async fn compare(transaction: &mut dyn Transaction, numbering: &Numbering) -> Result<(), StoreError> {
    let Some(log) = numbering.log.as_ref().filter(|_| !transaction.is_compared()) else { return Ok(()) };
    let remembered = log.marks().await;
    let remembered = remembered.map_err(|error| StoreError::Unavailable(format!("the log's marks: {error}")))?;
    if remembered.replay.is_some() {
        return Err(StoreError::Behind("a replay is pending".into()));
    }
    let stored = transaction.stored_marks().await?;
    match stored.behind(&remembered.marks).first() {
        Some(worker) => Err(StoreError::Behind(format!("commits of {worker} that were acknowledged are missing"))),
        None => {
            transaction.set_compared();
            Ok(())
        }
    }
}

/// A store that numbers commits.
#[async_trait]
pub trait MarkedStore: Send + Sync + 'static {
    /// Returns the marks, from the server that accepts writes.
    async fn marks(&self) -> Result<StoredMarks, StoreError>;

    /// Raises marks that are lower than these. It is a commit of `number.worker` itself, so it fails if a commit of the
    /// replay is missing. Returns its number.
    async fn raise_marks(&self, number: Number<'_>, marks: &Marks) -> Result<u64, StoreError>;

    /// Removes the marks of workers that are none of these and have not committed for `age`; returns their number.
    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<u64, StoreError>;

    /// Closes all connections for commits, and trusts no cached key any more: it may be of another server.
    fn distrust_connections(&self);
}
