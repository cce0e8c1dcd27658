//! Converts spans to the types of OpenTelemetry.

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sluice_event::TraceContext;
use sluice_service::trace::{self, Span, SpanEvent, Value};

/// The longest text of an attribute or an error, in characters: messages of servers may be long.
const MAX_TEXT: usize = 1_024;

/// Returns a span as it is exported.
pub(crate) fn span_data(span: Span, scope: InstrumentationScope) -> SpanData {
    let mut events = SpanEvents::default();
    events.events = span.events.into_iter().map(event).collect();
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(|linked| Link::with_context(context(linked))).collect();
    SpanData {
        span_context: context(span.context),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: span.has_remote_parent,
        span_kind: kind(span.kind),
        name: span.name,
        start_time: span.started,
        end_time: span.ended,
        attributes: span.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        dropped_attributes_count: 0,
        events,
        links,
        status: span.error.map_or(Status::Unset, |error| Status::error(shortened(&error))),
        instrumentation_scope: scope,
    }
}

fn context(TraceContext { trace_id, span_id }: TraceContext) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(trace_id), SpanId::from_bytes(span_id));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn kind(kind: trace::SpanKind) -> SpanKind {
    match kind {
        trace::SpanKind::Server => SpanKind::Server,
        trace::SpanKind::Client => SpanKind::Client,
        trace::SpanKind::Producer => SpanKind::Producer,
        trace::SpanKind::Consumer => SpanKind::Consumer,
    }
}

fn attribute(name: &'static str, value: Value) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(name, shortened(&text)),
        Value::Number(number) => KeyValue::new(name, number),
    }
}

fn event(SpanEvent { name, time, error }: SpanEvent) -> Event {
    Event::new(name, time, vec![KeyValue::new("exception.message", shortened(&error))], 0)
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
