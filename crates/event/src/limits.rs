//! The limits of a request.

use std::str::FromStr;
use std::time::Duration;

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
    /// How long after its arrival a timestamp may be; `None` allows any.
    pub max_future: Option<Duration>,
    /// How long before its arrival a timestamp may be; `None` allows any.
    pub max_age: Option<Duration>,
    /// What becomes of an event whose timestamp is beyond.
    pub out_of_range: OutOfRange,
}

/// What becomes of an event whose timestamp is further from its arrival than is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// It is refused, and its request with it.
    #[default]
    Refuse,
    /// It is accepted with the time of its arrival.
    Arrival,
}

/// Parses the text used in settings: `refuse` or `arrival`.
impl FromStr for OutOfRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "arrival" => Ok(Self::Arrival),
            _ => Err("use refuse or arrival".into()),
        }
    }
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
            max_future: None,
            max_age: None,
            out_of_range: OutOfRange::Refuse,
        }
    }
}
