//! Keys of events in partitions by arrival, so that storing an event costs the same however many there are.
//!
//! The rows of all events lie in one table, in the order of arrival, and a new one is written at its end. A key is a
//! hash, so an index of all keys would change anywhere with each new row: once it has more pages than a transaction has
//! events, each event writes a page of its own. So keys lie in other tables, the **partitions**: the key, the hash of
//! the payload, and the `seq` of the event. New keys go to the one partition that is open. It is closed by
//! its size or age ([`close`]), and never changes again. docs/decisions/0017-sqlite-events.md has the figures.
//!
//! A key is unique within the open partition by its primary key. The closed ones are looked up before keys are inserted
//! ([`look_up`]); a filter of each closed partition's keys ([`crate::partitions::Filters`]) says for most new keys that they are not
//! there. Neighbouring partitions share one more filter ([`crate::partitions::Group`]), so that the number of filters that are
//! asked grows far more slowly than the number of partitions. There is one transaction at a time that writes, so nothing
//! changes between the look-up and the insertion.
//!
//! That a filter says "no" is final, so it must be the right one:
//!
//! - The version of the list of partitions is read within each transaction. It is random and changes together with the
//!   list, which names each filter by a random id. A list in memory is used only if it has this version ([`layout`]).
//!   So another process that has the file open, or a file that was replaced by a backup, leaves nothing wrong behind.
//! - Each segment of a filter has a checksum and the names of its partition and filter
//!   ([`crate::partitions::key_filter`]). Without a sound filter the partition is looked up, and the filter is built again ([`build`]).
//!
//! What does not depend on SQL is in [`crate::partitions`], which PostgreSQL uses too: the list, the filters, where keys are
//! looked up, and when a partition is closed. [`tables`] has the statements.
//!
//! The retention deletes rows from the beginning of the table. A key whose `seq` is before the first row is not stored
//! any more. A partition that has no other keys is dropped.
//!
//! A file of an older version has a unique index on the keys of all events. It decides, as before, until all keys are
//! copied into partitions, and is dropped then ([`switch`]).

mod build;
mod close;
mod groups;
mod layout;
mod look_up;
mod maintain;
mod switch;
mod tables;

pub(super) use layout::{Layouts, table};
pub(super) use look_up::{KeySearch, seqs_of};
pub(super) use maintain::KeyPartitions;
pub(super) use switch::{MARK, finish_if_empty, is_switched};
