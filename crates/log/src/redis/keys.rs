//! The names of the keys. The hash tag `{p}` puts all keys of a stream into one hash slot.

use sluice_event::IdempotencyKeyHash;

/// The consumer group.
pub(super) const GROUP: &str = "aggregators";

/// The keys of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamKeys {
    pub number: u16,
    pub stream: String,
    pub counts: String,
}

impl StreamKeys {
    pub fn new(prefix: &str, number: u16) -> Self {
        let stream = format!("{prefix}:{{{number}}}");
        let counts = format!("{stream}:counts");
        Self { number, stream, counts }
    }

    /// Returns the key under which the body hash of a request with an `Idempotency-Key` is recorded.
    pub fn key_record(&self, key: IdempotencyKeyHash) -> String {
        format!("{}:key:{:032x}", self.stream, key.as_u128())
    }
}

/// Returns the key under which the highest number of streams ever used is recorded.
pub(super) fn streams(prefix: &str) -> String {
    format!("{prefix}:streams")
}
