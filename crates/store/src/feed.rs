//! The feed: all events in one order, each once, also those of a transaction that commits late.
//!
//! An event's place in the order is its `seq`, whose high bits are the number of its batch. Batches are numbered when they
//! begin and committed in any order, so a reader that went on to the newest event would pass those that a slower transaction
//! commits later. Therefore a page ends at a horizon: the last number that none of our own running transactions can precede.
//! A backend says what it is, and reads rows up to it; what is here is the same for all of them.
//!
//! A [`Cursor`] is the number of an event that was shown, never that of the horizon: a number that was drawn and not
//! committed may be drawn again after a crash, and the number of a stored event is not, because its commit is on the disk.
//!
//! A store that has lost commits uses numbers again. That is a new generation ([`Feed::begin_generation`]), which a cursor
//! names. One of a former generation goes on where the histories part, and events that were shown since may come once more.

mod builder;
mod cursor;
mod query;

use async_trait::async_trait;

use crate::StoreError;

pub(crate) use builder::{PageBuilder, Step};
pub use cursor::{Cursor, Generation, InvalidCursor, Start};
pub(crate) use cursor::{Generations, Place};
pub use query::{FeedPage, FeedQuery};

/// A store that shows its events in their order.
#[async_trait]
pub trait Feed {
    /// Returns the next events. The page is empty while there are none, and while it is not known which can be shown.
    async fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StoreError>;

    /// Begins a generation, because the store has lost commits: numbers after the present last one may have been given
    /// before. Nothing may have been stored since. With the time of a loss, at which the log has noticed it, only the first
    /// call for this loss does.
    async fn begin_generation(&self, loss: Option<u64>) -> Result<(), StoreError>;
}
