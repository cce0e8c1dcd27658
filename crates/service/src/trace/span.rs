//! A span: what it describes, and where it is in a trace.

use std::borrow::Cow;
use std::time::SystemTime;

use sluice_event::TraceContext;
use sluice_event::ambient::random_u128;

/// A span that has ended. Names of spans and attributes follow OpenTelemetry's semantic conventions where there are some.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its trace, and its own id.
    pub context: TraceContext,
    /// The id of its parent; `None` if it begins the trace.
    pub parent: Option<[u8; 8]>,
    /// Whether its parent was made by another process.
    pub has_remote_parent: bool,
    /// Its name, one of a few.
    pub name: Cow<'static, str>,
    /// What it is to the spans around it.
    pub kind: SpanKind,
    /// When what it describes began.
    pub started: SystemTime,
    /// When that ended.
    pub ended: SystemTime,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// Spans of other traces that describe the same operation.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What a span is to the spans around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// It answers a request.
    Server,
    /// It asks another server and waits.
    Client,
    /// It hands something over and does not wait until that is read.
    Producer,
    /// It reads what was handed over.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text of a bounded length.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// Something that happened while a span lasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanEvent {
    /// Its name, one of a few.
    pub name: &'static str,
    /// When it happened.
    pub time: SystemTime,
    /// Why, in words.
    pub error: String,
}

/// Numbers that do not fit are shown as the largest that does.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// Returns the id of a trace in hexadecimal, as log lines have it.
pub fn hex_of(trace: TraceContext) -> String {
    hex::encode(trace.trace_id)
}

/// Returns a new id of a span, which is not zero.
pub(crate) fn new_span_id() -> [u8; 8] {
    // The lowest bit is set, so that it is never zero.
    ((random_u128() as u64) | 1).to_be_bytes()
}

/// Returns a new id of a trace, which is not zero.
pub(crate) fn new_trace_id() -> [u8; 16] {
    (random_u128() | 1).to_be_bytes()
}
