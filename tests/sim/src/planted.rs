//! Mistakes that can be planted, to show that the simulation finds them. Each is made at the border between
//! the real code and a model, as the real code would make it.

use sluice_event::EntryId;
use sluice_event::entry::PackedEntry;

/// A planted mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// What was read is acknowledged before it is committed.
    AcknowledgeBeforeCommit,
    /// Each repetition of an append has a new entry id.
    NewIdPerRepetition,
    /// The dedup cache stays valid when a connection to the store is lost.
    CacheOutlivesConnection,
    /// The log does not note by which commit entries are stored that are acknowledged.
    CommitsAreNotNoted,
    /// A replay ends without having read anything.
    ReplayReadsNothing,
    /// A replica compares the commits of its own workers only, and not those of replicas that are gone.
    OwnCommitsOnly,
    /// A filter is named by the number of its partition, and not by a random id.
    FilterOfAnyPartition,
    /// The list of partitions in memory is used, whatever version the transaction reads.
    ListFromMemory,
    /// The version of the list of partitions is the number of the open one, and not random.
    VersionComesAgain,
    /// Partitions are changed while batches run.
    CloseDoesNotWait,
    /// A batch does not check that the open partition has a place for it.
    RoomIsNotChecked,
    /// A partition without a filter in memory is not looked up.
    NoFilterMeansNo,
    /// A damaged filter has a checksum that matches.
    DamageIsNotNoticed,
    /// A group has one partition more than those whose keys are in its filter.
    GroupOfOneMore,
    /// The dedup cache stays valid when events are removed.
    RemovalsAreNotNoticed,
}

/// Gives an entry a new id, which is behind the version byte in its header.
pub fn under_a_new_id(entry: &mut PackedEntry) {
    entry.id = EntryId::random();
    entry.body[1..17].copy_from_slice(entry.id.as_bytes());
}
