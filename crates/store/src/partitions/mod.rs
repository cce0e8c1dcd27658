//! Events in partitions by arrival: the part of the protocol that is the same whatever keeps the partitions.
//! [`crate::postgres`] keeps them in tables, and the simulation (`tests/sim`) in memory. The protocol itself is described in
//! `postgres/event_partitions/mod.rs`.
//!
//! [`Layout`] is the list of partitions that a transaction has found, [`Layouts`] the one that a process has in memory.
//! [`Filters`] are the filters in memory, and [`closed_places`] says where keys must be looked up. A [`Group`] is of
//! partitions that share a filter. [`maintain`] closes partitions, and builds and loads filters, by the statements of
//! [`PartitionTables`].

mod build;
mod choose;
mod filters;
mod group;
mod groups;
pub(crate) mod key_filter;
mod layout;
mod limits;
mod maintain;
mod places;
mod tables;

pub use filters::{Filters, Loaded, SegmentSource};
pub use group::{Group, NewGroup, Unfinished};
pub use key_filter::{FilterName, Segment};
pub use layout::{BATCH_BITS, Closed, Layout, LayoutSource, Layouts, Listed, Run, batches_before};
pub use limits::{Limits, OpenPartition};
pub use maintain::{look, maintain};
pub use places::{Place, anywhere, closed_places};
pub use tables::PartitionTables;
