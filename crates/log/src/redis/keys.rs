//! The names of the keys. The hash tag `{p}` puts all keys of a stream into one hash slot.

/// The consumer group.
pub(super) const GROUP: &str = "aggregators";

/// The keys of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamKeys {
    pub number: u16,
    pub stream: String,
    pub counts: String,
    /// The records of `Idempotency-Key`s: a newer and an older hash.
    pub newer_keys: String,
    pub older_keys: String,
}

impl StreamKeys {
    pub fn new(prefix: &str, number: u16) -> Self {
        let stream = format!("{prefix}:{{{number}}}");
        let counts = format!("{stream}:counts");
        let (newer_keys, older_keys) = (format!("{stream}:keys:newer"), format!("{stream}:keys:older"));
        Self { number, stream, counts, newer_keys, older_keys }
    }
}

/// Returns the key under which the highest number of streams ever used is recorded.
pub(super) fn streams(prefix: &str) -> String {
    format!("{prefix}:streams")
}
