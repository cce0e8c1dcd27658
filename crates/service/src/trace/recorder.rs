//! Where the spans of a process go.

use std::sync::OnceLock;

use super::{Sampling, Span};

static TRACING: OnceLock<Tracing> = OnceLock::new();

/// Takes the spans of a process.
pub trait Recorder: Send + Sync + 'static {
    /// Takes a span. It must not wait, and may lose spans if there are too many.
    fn record(&self, span: Span);
}

/// The servers that a program uses, as OpenTelemetry names them.
#[derive(Debug, Clone)]
pub struct Systems {
    /// Where the log is, for `messaging.system`.
    pub log: &'static str,
    /// The name that all of its streams have in common, for `messaging.destination.name`.
    pub streams: String,
    /// Where the events are stored, for `db.system.name`.
    pub store: &'static str,
}

/// The tracing of a process.
pub struct Tracing {
    /// Where the spans go.
    pub recorder: Box<dyn Recorder>,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// The servers that the program uses.
    pub systems: Systems,
}

/// Begins to trace. Returns false if the process traces already, and then changes nothing.
pub fn install(tracing: Tracing) -> bool {
    TRACING.set(tracing).is_ok()
}

/// Returns the tracing of this process, if it traces.
pub fn active() -> Option<&'static Tracing> {
    TRACING.get()
}
