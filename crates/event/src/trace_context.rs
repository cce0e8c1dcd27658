//! Where a request belongs in a distributed trace, as it travels from the publisher to the aggregator.

use std::fmt;

/// The trace of a request, and the span in it whose children describe what becomes of the request. It is only there for a
/// request that is traced. The ids are those of W3C Trace Context (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace. Not zero.
    pub trace_id: [u8; 16],
    /// The span. Not zero.
    pub span_id: [u8; 8],
}

impl TraceContext {
    /// Its size in an entry, in bytes.
    pub const BYTES: usize = 24;

    /// Returns its bytes: the id of the trace, and that of the span.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        bytes
    }

    /// Returns the context of bytes that [`to_bytes`](Self::to_bytes) has returned.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&bytes[..16]);
        span_id.copy_from_slice(&bytes[16..]);
        Self { trace_id, span_id }
    }
}

/// The two ids in hexadecimal, as in the header `traceparent`.
impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "TraceContext({trace:032x}-{span:016x})")
    }
}
