//! Events lie in partitions, by the time of their arrival, so that the indexes that are written to stay small, and old
//! events are removed by dropping a table.
//!
//! A partition has the batches of a range of numbers, and so a range of `seq`: [`layout`] says which. There is one open
//! partition, to which all transactions write. The key of an event is unique within it by its primary key. Across
//! partitions it is unique by the protocol of the receipts ([`super::receipts`]):
//!
//! - The transaction of a batch locks the table of receipts in ROW EXCLUSIVE mode, takes the number of its batch, and
//!   reads the version of the list of partitions.
//! - Whoever closes a partition locks that table in SHARE ROW EXCLUSIVE mode, which waits until those transactions have
//!   ended and makes new ones wait. It then moves the sequence of the batches to the range of the next partition.
//!
//! So the open partition stays open while a transaction runs, and what is in the closed ones is visible to each of its
//! statements and never changes again. Before a transaction inserts rows it looks their keys up in the closed partitions
//! ([`look_up`]). A filter of each closed partition's keys ([`crate::partitions::Filters`]) says for most keys that they
//! are not there. A filter is built once, after its partition was closed ([`build`]), and stored in the database, from
//! which each replica loads it. While there is none, the keys are looked up. Before that the partition is vacuumed
//! ([`vacuum`]). Neighbouring partitions share one more filter ([`crate::partitions::Group`]), so that the number of
//! filters that are asked grows far more slowly than the number of partitions.
//!
//! That a filter says "no" is final, so it must be the right one:
//!
//! - The list of partitions, with the id of each filter, is read from the database within the transaction. A list in
//!   memory is used only if the version of the list, which is random and changes together with it, is still the same.
//! - The id of a filter is random too. A promoted standby that has lost the end of a partition, and fills it with other
//!   keys, builds a filter with another id.
//! - Each segment of a filter has a checksum and the names of its partition and filter ([`crate::partitions::Segment`]).
//!
//! What does not depend on SQL is in [`crate::partitions`], which the simulation runs too: the list, the filters, where keys
//! are looked up, when a partition is closed, and the order of the steps of maintenance. [`maintain`] has the statements.
//!
//! A schema that an older version made has all events in one table. It becomes a closed partition ([`switch`]).

mod build;
mod close;
pub(super) mod feed_ranges;
mod groups;
pub(super) mod layout;
pub(super) mod look_up;
pub(super) mod maintain;
pub(super) mod remove;
pub(super) mod switch;
mod topic_index;
mod vacuum;
pub(super) mod views;

pub(super) use maintain::Tables;
pub(super) use topic_index::TopicIndex;
