//! The names of the keys. The hash tag `{p}` puts all keys of a stream into one hash slot.

use super::slots;

/// The consumer group.
pub(super) const GROUP: &str = "aggregators";

/// The prefix of all keys, and what the hash tags of streams are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix {
    text: String,
    is_cluster: bool,
}

impl Prefix {
    /// Returns the prefix for one server, or for a cluster, on which tags spread streams over the nodes.
    pub fn new(text: &str, is_cluster: bool) -> Self {
        Self { text: text.to_owned(), is_cluster }
    }
}

/// The keys of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamKeys {
    pub number: u16,
    pub stream: String,
    pub counts: String,
    /// The records of `Idempotency-Key`s: a newer and an older hash.
    pub newer_keys: String,
    pub older_keys: String,
    /// The last commit of each worker whose entries were acknowledged.
    pub marks: String,
    /// Samples of what was acknowledged at which time.
    pub window: String,
    /// The replay that has not ended.
    pub replay: String,
}

impl StreamKeys {
    pub fn new(prefix: &Prefix, number: u16) -> Self {
        let Prefix { text, is_cluster } = prefix;
        let tag = if *is_cluster { slots::tag(number) } else { number.to_string() };
        let stream = format!("{text}:{{{tag}}}");
        let counts = format!("{stream}:counts");
        let (newer_keys, older_keys) = (format!("{stream}:keys:newer"), format!("{stream}:keys:older"));
        let [marks, window, replay] = ["marks", "window", "replay"].map(|name| format!("{stream}:{name}"));
        Self { number, stream, counts, newer_keys, older_keys, marks, window, replay }
    }
}

/// Returns the key under which the highest number of streams ever used is recorded.
pub(super) fn streams(prefix: &Prefix) -> String {
    format!("{}:streams", prefix.text)
}

/// Returns the key of the notice.
pub(super) fn notice(prefix: &Prefix) -> String {
    format!("{}:notice", prefix.text)
}

/// Returns the key of the tallies.
pub(super) fn tallies(prefix: &Prefix) -> String {
    format!("{}:tallies", prefix.text)
}

/// Returns the key of the right to replay.
pub(super) fn replayer(prefix: &Prefix) -> String {
    format!("{}:replayer", prefix.text)
}

/// Returns the key under which the last loss is noted.
pub(super) fn loss(prefix: &Prefix) -> String {
    format!("{}:loss", prefix.text)
}
