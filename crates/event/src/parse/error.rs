//! The errors of a request body.

use std::fmt;

/// The kind of fault of a request. A server maps each kind to a status of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body is not JSON, or not UTF-8.
    Malformed,
    /// An event violates the contract.
    Invalid,
    /// More events than [`Limits::events`].
    TooManyEvents,
    /// A payload larger than [`Limits::payload_bytes`].
    PayloadTooLarge,
    /// A payload nested deeper than [`Limits::payload_depth`].
    PayloadTooDeep,
}

/// Why a body is refused. Its text names the event and the field: `events[3].timestamp: must be …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The kind of fault.
    pub kind: ErrorKind,
    /// The index of the event, from 0; `None` when the fault concerns the whole body.
    pub index: Option<usize>,
    /// The field, when the fault concerns one.
    pub field: Option<&'static str>,
    /// The fault, without the index and the field.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, self.field) {
            (Some(index), Some(field)) => write!(f, "events[{index}].{field}: {}", self.message),
            (Some(index), None) => write!(f, "events[{index}]: {}", self.message),
            (None, Some(field)) => write!(f, "{field}: {}", self.message),
            (None, None) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParseError {}
