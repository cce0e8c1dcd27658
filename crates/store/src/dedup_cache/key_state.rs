//! The states of a key.

use sluice_event::PayloadHash;

/// The first 64 bits of a payload's hash: enough to tell a conflict from a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortHash(pub(super) u64);

impl From<PayloadHash> for ShortHash {
    fn from(hash: PayloadHash) -> Self {
        Self((hash.as_u128() >> 64) as u64)
    }
}

impl ShortHash {
    /// Returns whether an event with this hash conflicts with one that is stored. Of an erased event the hash is not known, so
    /// nothing conflicts with it.
    pub fn conflicts_with(self, stored: Self) -> bool {
        stored != self && stored != Self::from(crate::erased::PAYLOAD_HASH)
    }
}

/// What a process can tell about a key before it inserts the key's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key is stored, with a payload that has this hash. Certain.
    Stored(ShortHash),
    /// Another transaction of this process is inserting the key.
    BeingInserted,
    /// This process stored the key some time ago, most likely: the Bloom filter may be wrong, and the row
    /// may have been deleted.
    PreviouslyStored,
    /// Nothing is recorded about the key. Most likely it is new.
    Unknown,
}
