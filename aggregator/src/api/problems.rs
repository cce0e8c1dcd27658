//! The problems that the query API itself returns, each with its code, its text and its `Retry-After`.

use std::time::Duration;

use sluice_meter::{InvalidDefinition, MAX_METERS};
use sluice_schema::{InvalidSchema, MAX_SCHEMAS, MAX_TOTAL_BYTES};
use sluice_service::code::Code;
use sluice_service::problem::Problem;
use sluice_store::StoreError;
use sluice_store::schemas::PutSchema;

/// A database that restarts is available again within a few seconds.
const STORE_RETRY: Duration = Duration::from_secs(2);
/// Streams end after minutes.
const STREAM_RETRY: Duration = Duration::from_secs(10);

/// Returns the problem for an error of the store. The client gets a general text; the error itself is only logged.
pub(super) fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) | StoreError::Conflict(_) => Problem::new(Code::StoreUnavailable, error.to_string())
            .public_detail("the store does not answer; try again")
            .retry_after(STORE_RETRY),
        StoreError::DiskFull(_) => Problem::new(Code::StoreUnavailable, error.to_string())
            .public_detail("the disk of the store is full")
            .retry_after(STORE_RETRY),
        StoreError::Behind(_) => Problem::new(Code::StoreUnavailable, error.to_string())
            .public_detail("the store has lost events, which are being stored again; try again later")
            .retry_after(STORE_RETRY),
        StoreError::TooSlow(_) => Problem::new(Code::QueryTooSlow, error.to_string())
            .public_detail("the query took too long and was ended; ask for less: a topic, or fewer topics or events"),
        StoreError::Damaged(_) => Problem::new(Code::StoreDamaged, error.to_string())
            .public_detail("the store reports that its files are damaged; its message is in the log"),
        StoreError::Refused { .. } | StoreError::Failed(_) => Problem::new(Code::Internal, error.to_string()),
    }
}

/// Returns the problem for an answer that had to wait too long until others were read.
pub(super) fn too_many_queries() -> Problem {
    Problem::new(Code::TooManyQueries, "too many large answers are being read at the moment; try again")
        .retry_after(STORE_RETRY)
}

/// Returns the problem for a stream beyond those that are open.
pub(super) fn too_many_streams() -> Problem {
    Problem::new(Code::TooManyQueries, "too many streams of events are open at the moment; try again, or read pages")
        .retry_after(STREAM_RETRY)
}

/// Returns the problem for a replay whose events the store refused again; `error` has the reason.
pub(super) fn still_refused(error: &StoreError) -> Problem {
    Problem::new(Code::StillRefused, error.to_string())
}

/// Returns the problem for an event whose row is damaged.
pub(super) fn event_damaged() -> Problem {
    let detail = "the stored event is damaged: its row does not match its hashes";
    Problem::new(Code::StoreDamaged, detail).public_detail(detail)
}

/// Returns the problem for an event or a dead letter that does not exist.
pub(super) fn not_found(detail: &str) -> Problem {
    Problem::new(Code::NotFound, detail)
}

/// Returns the problem for the definition of a meter that cannot be used.
pub(super) fn invalid_meter(error: &InvalidDefinition) -> Problem {
    let field = Some(&*error.field).filter(|field| !field.is_empty());
    let detail = field.map_or_else(|| error.reason.clone(), |field| format!("{field}: {}", error.reason));
    Problem::new(Code::InvalidMeter, detail).at(None, field)
}

/// Returns the problem for one meter more than there may be.
pub(super) fn too_many_meters() -> Problem {
    let detail = format!("there are {MAX_METERS} meters, with those that are being changed; remove one first");
    Problem::new(Code::TooManyMeters, detail)
}

/// Returns the problem for the definition of a schema that cannot be used.
pub(super) fn invalid_schema(error: &InvalidSchema) -> Problem {
    let field = Some(&*error.field).filter(|field| !field.is_empty());
    let problem = Problem::new(Code::InvalidSchema, error.to_string()).at(None, field);
    match &error.pointer {
        Some(pointer) => problem.at_pointer(pointer),
        None => problem,
    }
}

/// Returns the problem for a topic that can have no events, and so no schema.
pub(super) fn invalid_topic(reason: &str) -> Problem {
    Problem::new(Code::InvalidSchema, format!("topic: {reason}")).at(None, Some("topic"))
}

/// Returns the problem for a topic without a schema, or without this version.
pub(super) fn no_schema() -> Problem {
    not_found("the topic has no such schema")
}

/// Returns the problem for a schema beyond the bound of all schemas.
pub(super) fn too_many_schemas(put: PutSchema) -> Problem {
    let detail = match put {
        PutSchema::TooMany => format!("{MAX_SCHEMAS} topics have a schema; remove one first"),
        _ => format!("all schemas together may have {MAX_TOTAL_BYTES} bytes; remove one first"),
    };
    Problem::new(Code::TooManySchemas, detail)
}

/// Returns the problem for a comparison that failed. `cause` is only logged.
pub(super) fn check_failed(cause: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Internal, format!("comparing events with a schema failed: {cause}"))
}

/// Returns the problem for a body that is larger than it may be.
pub(super) fn body_too_large(max_bytes: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("the body is larger than {max_bytes} bytes"))
}

/// Returns the problem for a body that did not arrive in time.
pub(super) fn body_timeout() -> Problem {
    Problem::new(Code::BodyTimeout, "the body did not arrive in time")
}

/// Returns the problem for a body that is not the JSON that it should be.
pub(super) fn malformed_body(why: &str) -> Problem {
    Problem::new(Code::MalformedJson, why)
}

/// Returns the problem for a query parameter that is unknown or has an invalid value.
pub(super) fn invalid_query(name: &str, message: &str) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name}: {message}")).at(None, Some(name))
}
