//! Every problem that the publisher itself returns: its code, its text and its `Retry-After`.

use std::time::Duration;

use sluice_event::{ErrorKind, Faults, Refused};
use sluice_schema::Violation;
use sluice_service::code::Code;
use sluice_service::event_errors::{EventError, EventErrors};
use sluice_service::problem::Problem;

/// The errors of events that are shown, at most.
pub(crate) const MAX_ERRORS: usize = 100;
/// A full queue is emptied by the next appends, which take milliseconds.
const QUEUE_RETRY: Duration = Duration::from_secs(1);
/// A log has room again when aggregators have stored a part of the backlog.
const BACKLOG_RETRY: Duration = Duration::from_secs(2);
/// Somebody has to make room on a full disk.
const SPACE_RETRY: Duration = Duration::from_secs(10);
/// Redis or an aggregator that restarts is back within seconds.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// Too many events are accepted and not stored yet.
pub(crate) fn backlog_full() -> Problem {
    Problem::new(Code::BacklogFull, "too many events are not stored yet; come back later").retry_after(BACKLOG_RETRY)
}

/// The memory of the log is short.
pub(crate) fn log_memory_full() -> Problem {
    Problem::new(Code::LogMemoryFull, "the log has too little memory left; come back later").retry_after(BACKLOG_RETRY)
}

/// The disk of the log is full.
pub(crate) fn log_full() -> Problem {
    Problem::new(Code::LogFull, "the log has no space on its disk")
        .public_detail("the log has no space on its disk; nothing was written")
        .retry_after(SPACE_RETRY)
}

/// Too many requests, or too many bytes of bodies, wait for the log.
pub(crate) fn queue_full() -> Problem {
    Problem::new(Code::QueueFull, "too many requests are waiting to be written").retry_after(QUEUE_RETRY)
}

/// The body arrives slowly, and others need the bytes that it holds.
pub(crate) fn body_too_slow() -> Problem {
    Problem::new(Code::QueueFull, "the body arrives slowly while too many requests are waiting to be written")
        .retry_after(QUEUE_RETRY)
}

/// The `Idempotency-Key` came with another body before.
pub(crate) fn key_reused() -> Problem {
    let detail = "this Idempotency-Key came with another body before; use a new key for each request";
    Problem::new(Code::IdempotencyKeyReused, detail)
}

/// The log did not confirm the request. `cause` is only logged.
pub(crate) fn log_unavailable(cause: &str) -> Problem {
    Problem::new(Code::LogUnavailable, cause)
        .public_detail("the log did not confirm the request; repeat it, under the same Idempotency-Key if it had one")
        .retry_after(UNAVAILABLE_RETRY)
}

/// No aggregator answered a forwarded request. `cause` is only logged.
pub(crate) fn query_unavailable(cause: &str) -> Problem {
    Problem::new(Code::QueryUnavailable, cause)
        .public_detail("the aggregators do not answer; publishing goes on")
        .retry_after(UNAVAILABLE_RETRY)
}

/// The path of a request cannot be part of the aggregators' URL.
pub(crate) fn malformed_path() -> Problem {
    Problem::new(Code::BadRequest, "the path is malformed")
}

/// The body is not declared as JSON in UTF-8.
pub(crate) fn unsupported_media_type(detail: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// CloudEvents would be unique by less than their source and id.
pub(crate) fn cloud_events_without_source() -> Problem {
    let detail = "CloudEvents are unique by source and id, and here the source is not part of what makes an event unique: add \
                  `source` to the dedup fields, or {source} to --cloudevents-topic, or accept it with \
                  --cloudevents-without-source warn";
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// The body has a content coding that is not supported, or several.
pub(crate) fn unsupported_encoding() -> Problem {
    let detail = "send the body without a Content-Encoding, or with one that is gzip or zstd";
    Problem::new(Code::UnsupportedMediaType, detail).accept_encoding("gzip, zstd")
}

/// The body is not what its `Content-Encoding` says.
pub(crate) fn malformed_encoding(coding: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::new(Code::MalformedEncoding, format!("the body cannot be expanded as {coding}: {reason}"))
}

/// The query parameter `partial` has another value, or is given twice.
pub(crate) fn invalid_partial() -> Problem {
    Problem::new(Code::InvalidQuery, "partial must be true or false, and given once").at(None, Some("partial"))
}

/// The query parameter `wait` has another value, or is given twice.
pub(crate) fn invalid_wait() -> Problem {
    Problem::new(Code::InvalidQuery, "wait must be stored, and given once").at(None, Some("wait"))
}

/// The `Idempotency-Key` cannot be one.
pub(crate) fn invalid_idempotency_key(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidIdempotencyKey, detail)
}

/// The body has more than `max` bytes.
pub(crate) fn body_too_large(max: usize) -> Problem {
    let detail = format!("the body is larger than {max} bytes; send fewer events in a request");
    Problem::new(Code::BodyTooLarge, detail)
}

/// The body would have more than `max` bytes when it is expanded.
pub(crate) fn expanded_body_too_large(max: usize) -> Problem {
    let detail = format!("the expanded body is larger than {max} bytes; send fewer events in a request");
    Problem::new(Code::BodyTooLarge, detail)
}

/// The body was not complete within the timeout.
pub(crate) fn body_timeout(timeout: Duration) -> Problem {
    Problem::new(Code::BodyTimeout, format!("the body did not arrive within {timeout:?}"))
}

/// The body has fewer bytes than announced, or its last chunk is missing.
pub(crate) fn body_ends_early() -> Problem {
    Problem::new(Code::MalformedJson, "the body ends before its announced end")
}

/// The parser refused the body.
pub(crate) fn invalid_body(refused: &Refused<'_>) -> Problem {
    let first = &refused.first;
    let problem = Problem::new(code(first.kind), first.to_string()).at(first.index, first.field);
    problem.errors(event_errors(&refused.faults))
}

/// Returns the faults of events as clients get them.
pub(crate) fn event_errors(faults: &Faults) -> EventErrors {
    let errors = faults.kept().iter();
    let first = errors.map(|error| EventError::new(code(error.kind), error.index, error.field, error.to_string()));
    EventErrors { first: first.collect(), count: faults.count() }
}

/// The payload of an event does not match the schema of its topic. Returns the problem of its request, and the error of the
/// event.
pub(crate) fn schema_violation(index: usize, line: Option<usize>, violation: Violation) -> (Problem, EventError) {
    let Violation { pointer, reason } = violation;
    let line = line.map(|line| format!("line {line}, ")).unwrap_or_default();
    let at = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
    let detail = format!("{line}events[{index}].payload{at}: {reason}");
    let (code, field) = (Code::SchemaViolation, "payload");
    let problem = Problem::new(code, detail.as_str()).at(Some(index), Some(field)).at_pointer(&pointer);
    (problem, EventError::new(code, Some(index), Some(field), detail).at_pointer(pointer))
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Malformed => Code::MalformedJson,
        ErrorKind::Invalid | ErrorKind::TimestampOutOfRange => Code::InvalidEvent,
        ErrorKind::TooManyEvents => Code::TooManyEvents,
        ErrorKind::PayloadTooLarge => Code::PayloadTooLarge,
        ErrorKind::PayloadTooDeep => Code::PayloadTooDeep,
    }
}

/// The thread that parses large bodies failed. `cause` is only logged.
pub(crate) fn parsing_failed(cause: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Internal, format!("parsing failed: {cause}"))
}

/// The thread that expands bodies failed. `cause` is only logged.
pub(crate) fn expanding_failed(cause: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Internal, format!("expanding failed: {cause}"))
}
