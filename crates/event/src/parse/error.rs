//! The errors of a request body.

use std::fmt;

/// The kind of fault of a request. A server maps each kind to a status of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body is not JSON, or not UTF-8.
    Malformed,
    /// An event violates the contract.
    Invalid,
    /// A timestamp is further from the arrival of its request than is allowed: the only fault that depends on the time.
    TimestampOutOfRange,
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
    /// The line of the body, from 1, when each event has a line.
    pub line: Option<usize>,
    /// The field, when the fault concerns one.
    pub field: Option<&'static str>,
    /// The fault, without the index and the field.
    pub message: String,
}

impl ParseError {
    /// Returns a fault of the whole body.
    pub(super) fn whole(kind: ErrorKind, field: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { kind, index: None, line: None, field, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        match (self.index, self.field) {
            (Some(index), Some(field)) => write!(f, "events[{index}].{field}: {}", self.message),
            (Some(index), None) => write!(f, "events[{index}]: {}", self.message),
            (None, Some(field)) => write!(f, "{field}: {}", self.message),
            (None, None) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParseError {}
