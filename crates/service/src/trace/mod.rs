//! Traces: which requests are traced, and the spans that describe what becomes of them.
//!
//! A span is made when what it describes has ended, so a request that is not traced costs a comparison and no more. Where the
//! spans go is not known here: the program installs a [`Recorder`]. Without one nothing is traced.
//!
//! ```text
//! traceparent ──context──▶ sampling ──▶ ServerSpan ──┐
//!                  └─ TraceContext in the entry ──▶ Operation::record_in_each ──▶ Recorder
//! ```

mod context;
mod operation;
mod recorder;
mod sampling;
mod server_span;
mod span;

pub use context::{TRACEPARENT, Traceparent};
pub use operation::{Member, Operation};
pub use recorder::{Recorder, Systems, Tracing, active, install};
pub use sampling::Sampling;
pub(crate) use server_span::{Answered, ServerSpan};
pub use span::{Span, SpanEvent, SpanKind, Value, hex_of};
