//! The header `traceparent` of W3C Trace Context (<https://www.w3.org/TR/trace-context/#traceparent-header>).

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sluice_event::TraceContext;

/// The header with the trace of a request.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The length of the header in version 00, in bytes. Later versions may have more after a hyphen.
const LENGTH: usize = 55;
/// The flag of a trace whose spans are recorded.
const SAMPLED: u8 = 1;

/// What the header of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace, and the span of the client.
    pub context: TraceContext,
    /// Whether the client records its spans.
    pub is_sampled: bool,
}

impl Traceparent {
    /// Reads the header; `None` if there is none, more than one, or one that is not valid. The client then has no trace.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { Self::parse(value.as_bytes()) }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (fields, rest) = text.split_at_checked(LENGTH)?;
        let [version] = hex(&fields[..2])?;
        let is_complete = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
        let has_hyphens = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        if version == 0xff || !is_complete || !has_hyphens {
            return None;
        }
        let context = TraceContext { trace_id: hex(&fields[3..35])?, span_id: hex(&fields[36..52])? };
        let [flags] = hex(&fields[53..])?;
        let is_valid = context.trace_id != [0; 16] && context.span_id != [0; 8];
        is_valid.then_some(Self { context, is_sampled: flags & SAMPLED != 0 })
    }

    /// Returns the header's value.
    pub fn header(&self) -> Option<HeaderValue> {
        let TraceContext { trace_id, span_id } = self.context;
        let flags = if self.is_sampled { "01" } else { "00" };
        HeaderValue::from_str(&format!("00-{}-{}-{flags}", hex::encode(trace_id), hex::encode(span_id))).ok()
    }
}

/// Returns the bytes that a text in hexadecimal stands for. Only digits and lower case are valid.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower_case = text.iter().all(|byte| !byte.is_ascii_uppercase());
    (is_lower_case && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (TRACEPARENT, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_valid_header_is_read_and_written_back() {
        let parent = Traceparent::of(&headers(&[VALID])).unwrap();
        assert_eq!(format!("{:?}", parent.context), "TraceContext(0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331)");
        assert!(parent.is_sampled);
        assert_eq!(parent.header().unwrap(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        let parent = Traceparent::of(&headers(&[&unsampled])).unwrap();
        assert!(!parent.is_sampled);
        assert_eq!(parent.header().unwrap(), unsampled);
        // Other flags, and what a later version adds, are ignored.
        assert!(Traceparent::of(&headers(&[&VALID.replace("-01", "-03")])).unwrap().is_sampled);
        assert!(Traceparent::of(&headers(&[&VALID.replacen("00", "cc", 1)])).is_some());
        assert!(Traceparent::of(&headers(&[&format!("cc{}-later", &VALID[2..])])).is_some());
    }

    #[test]
    fn a_header_that_is_not_valid_is_none() {
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let zero_span = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
        for invalid in [
            "",
            "00",
            &VALID[1..],
            &VALID[..54],
            &format!("{VALID}-x"),
            &format!("cc{}later", &VALID[2..]),
            &VALID.replacen("00", "ff", 1),
            &VALID.to_uppercase(),
            &VALID.replace("-b7", "_b7"),
            &VALID.replace("0af", "0xf"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(Traceparent::of(&headers(&[invalid])), None, "{invalid:?}");
        }
        assert_eq!(Traceparent::of(&headers(&[VALID, VALID])), None, "two of them");
        assert_eq!(Traceparent::of(&HeaderMap::new()), None);
    }
}
