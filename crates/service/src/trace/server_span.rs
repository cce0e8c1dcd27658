//! The span of a request that a server answers.

use std::time::{Instant, SystemTime};

use axum::http::StatusCode;
use sluice_event::{RequestId, TraceContext};

use super::span::{new_span_id, new_trace_id};
use super::{Span, SpanKind, Traceparent, Value, active};

/// The paths that are asked every few seconds, and that nobody looks for in a trace.
const NEVER: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// The maximum number of bytes of a path in a span.
const MAX_PATH: usize = 256;

/// A request that is traced, from its arrival to its response.
#[derive(Debug)]
pub(crate) struct ServerSpan {
    context: TraceContext,
    parent: Option<[u8; 8]>,
    started: SystemTime,
    path: String,
}

/// A request with its response.
pub(crate) struct Answered<'r> {
    pub(crate) id: RequestId,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) method: &'static str,
    /// The pattern of the path; `None` if there is no such route.
    pub(crate) route: Option<&'r str>,
    pub(crate) status: StatusCode,
}

impl ServerSpan {
    /// Returns the span of a request with this `traceparent` that arrived at this time, if it is traced.
    pub(crate) fn begin(parent: Option<&Traceparent>, path: &str, started: Instant) -> Option<Self> {
        let tracing = active()?;
        if NEVER.contains(&path) || !tracing.sampling.begins(parent) {
            return None;
        }
        let now = SystemTime::now();
        let trace_id = parent.map_or_else(new_trace_id, |parent| parent.context.trace_id);
        Some(Self {
            context: TraceContext { trace_id, span_id: new_span_id() },
            parent: parent.map(|parent| parent.context.span_id),
            started: now.checked_sub(started.elapsed()).unwrap_or(now),
            path: path.chars().take(MAX_PATH).collect(),
        })
    }

    /// Returns its trace and its id.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// Records it with the response of its request.
    pub(crate) fn end(&self, request: &Answered<'_>) {
        let Some(tracing) = active() else { return };
        let Answered { id, scheme, method, route, status } = *request;
        // A client may send any method: there must be few names of spans.
        let (method, verb) = if method == "OTHER" { ("_OTHER", "HTTP") } else { (method, method) };
        let mut attributes = vec![
            ("http.request.method", Value::from(method)),
            ("url.scheme", scheme.into()),
            ("url.path", self.path.clone().into()),
            ("http.response.status_code", u64::from(status.as_u16()).into()),
            ("sluice.request.id", id.to_string().into()),
        ];
        attributes.extend(route.map(|route| ("http.route", route.to_owned().into())));
        let failed = status.is_server_error();
        if failed {
            attributes.push(("error.type", status.as_u16().to_string().into()));
        }
        tracing.recorder.record(Span {
            context: self.context,
            parent: self.parent,
            has_remote_parent: self.parent.is_some(),
            name: route.map_or(verb.into(), |route| format!("{verb} {route}").into()),
            kind: SpanKind::Server,
            started: self.started,
            ended: SystemTime::now().max(self.started),
            attributes,
            events: Vec::new(),
            links: Vec::new(),
            error: failed.then(|| status.canonical_reason().unwrap_or("server error").to_owned()),
        });
    }
}
