//! The numbers of commits, by which a store that has lost commits is noticed ([`sluice_log::replay`]).
//!
//! A worker numbers its commits: the store gives the number in the transaction, and remembers the last one. The loss of
//! a commit is noticed in three ways. Before the first commit on each connection all marks of the log are compared with
//! those of the store behind this connection, and cached keys are given up if there was a loss since. In every commit the
//! store compares the numbers that this process knows to be confirmed: a pooler may change the server without a new
//! connection. And [`MarkedStore::marks`] is compared periodically, and before anything is given up that a replay would
//! need.

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
        None => check_cache(transaction, numbering, remembered.loss.map_or(0, |loss| loss.detected)).map(|()| {
            transaction.set_compared();
        }),
    }
}

/// Has the connection closed if keys may be cached that are trusted on it, and that the store has lost: the store has the
/// marks again, but a key from outside the replay window is not stored. The process may have stood still meanwhile, and
/// this connection may have been opened before the loss of another one was counted.
fn check_cache(transaction: &dyn Transaction, numbering: &Numbering, loss: u64) -> Result<(), StoreError> {
    if !numbering.confirmed.has_seen(loss) {
        // In this order: whoever finds the loss seen finds its own connection outdated.
        transaction.distrust();
        numbering.confirmed.see(loss);
    } else if transaction.is_current() {
        return Ok(());
    }
    Err(StoreError::Unavailable("the store had lost commits, or a connection was lost: connecting anew".into()))
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

    /// Begins a generation of the feed ([`crate::feed`]), because the store has lost commits and gives their numbers again.
    /// Called before anything is stored again. A store without a feed has nothing to do.
    async fn begin_feed_generation(&self, _loss: Option<u64>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Closes all connections for commits, and trusts no cached key any more: it may be of another server.
    fn distrust_connections(&self);
}
