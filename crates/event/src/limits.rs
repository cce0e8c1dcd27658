//! The limits of a request.

/// Upper bounds of one request. Each has its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request body.
    pub body_bytes: usize,
    /// Events in one request.
    pub events: usize,
    /// Bytes of one payload, as JSON text.
    pub payload_bytes: usize,
    /// Levels of arrays and objects in one payload; `{}` is one level.
    pub payload_depth: usize,
    /// Bytes of a topic.
    pub topic_bytes: usize,
    /// Bytes of an event id.
    pub event_id_bytes: usize,
    /// Bytes of a source.
    pub source_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            events: 10_000,
            payload_bytes: 256 << 10,
            payload_depth: 64,
            topic_bytes: 256,
            event_id_bytes: 512,
            source_bytes: 512,
        }
    }
}
