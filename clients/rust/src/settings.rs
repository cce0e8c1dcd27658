//! The settings of a client that its tasks need.

use std::time::Duration;

/// What [`Client::send`](crate::Client::send) does while there is no room for an event: in memory, or in the spool if there
/// is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It waits until there is.
    #[default]
    Block,
    /// It returns [`SendError::Dropped`](crate::SendError::Dropped), and counts the event.
    Drop,
}

/// How events become batches.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) batch_events: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) in_flight: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) when_full: WhenFull,
}
