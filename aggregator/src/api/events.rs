//! `/events`: lists the stored events, newest arrival first, and returns single events by topic and id.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::problems::{not_found, store_problem};
use super::query::{Parameters, cursor};
use super::state::ApiState;
use sluice_store::{EventQuery, Page, StoredEvent};

const NDJSON: &str = "application/x-ndjson";
/// The maximum number of events in a page when the request has no `limit`.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
const MAX_LIMIT_NDJSON: u32 = 10_000;
/// The maximum number of events returned that share a topic and an id and differ in other dedup fields.
const MAX_ALIKE: u32 = 1_000;

/// An event as stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// As sent, or `default`.
    #[schema(example = "orders")]
    topic: String,
    /// As sent.
    #[schema(example = "evt-1")]
    event_id: String,
    /// RFC 3339 in UTC, to the microsecond.
    #[schema(format = DateTime)]
    timestamp: String,
    /// As sent.
    source: Option<String>,
    /// As sent: any JSON.
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
    /// When the publisher received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The `X-Request-Id` of the request that published it.
    request_id: String,
}

impl TryFrom<StoredEvent> for Event {
    type Error = Problem;

    fn try_from(event: StoredEvent) -> Result<Self, Problem> {
        let payload = RawValue::from_string(event.payload).map_err(|error| {
            store_problem(sluice_store::StoreError::Failed(format!("a stored payload is not JSON: {error}")))
        })?;
        Ok(Self {
            topic: event.topic,
            event_id: event.event_id,
            timestamp: event.timestamp.to_string(),
            source: event.source,
            payload,
            received_at: event.received_at.to_string(),
            request_id: event.request_id.to_string(),
        })
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    /// Newest arrival first.
    events: Vec<Event>,
    /// The `cursor` of the next page; null at the end.
    next_cursor: Option<String>,
}

/// Lists events, newest arrival first, with filters; as JSON, or one per line as NDJSON.
#[utoipa::path(get, path = "/events", tag = "events",
    params(
        ("topic" = Option<String>, Query, description = "Only this topic"),
        ("source" = Option<String>, Query, description = "Only from this source"),
        ("since" = Option<String>, Query, description = "Only with a timestamp at or after it"),
        ("until" = Option<String>, Query, description = "Only with a timestamp before it"),
        ("limit" = Option<u32>, Query, description = "The maximum number of events: 100 by default, at most 1,000 (10,000 as NDJSON)"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "A page. As NDJSON the next cursor is in the header X-Next-Cursor", body = Events),
        (status = 400, description = "`invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let lines = wants_lines(&headers);
    let mut parameters = Parameters::parse(query.as_deref())?;
    let query = EventQuery {
        topic: parameters.text("topic"),
        source: parameters.text("source"),
        since: parameters.value("since")?,
        until: parameters.value("until")?,
        before: parameters.cursor()?,
        limit: parameters.limit(DEFAULT_LIMIT, if lines { MAX_LIMIT_NDJSON } else { MAX_LIMIT })?,
    };
    parameters.end()?;
    let Page { events, next } = state.store.events(&query).await.map_err(store_problem)?;
    let next_cursor = next.map(cursor);
    let events = events.into_iter().map(Event::try_from).collect::<Result<Vec<_>, _>>()?;
    if lines { as_lines(&events, next_cursor) } else { Ok(Json(Events { events, next_cursor }).into_response()) }
}

/// Returns one event by topic and id.
#[utoipa::path(get, path = "/events/{topic}/{event_id}", tag = "events",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("event_id" = String, Path, description = "The event's id"),
        ("all" = Option<bool>, Query, description = "A page of all events stored with this topic and id, which may be \
            several with other dedup fields; first stored first"),
    ),
    responses(
        (status = 200, description = "The event that was stored first", body = Event),
        (status = 400, description = "`invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(state): State<ApiState>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let all = parameters.value::<bool>("all")?.unwrap_or(false);
    parameters.end()?;
    let missing = || not_found("no event with this topic and id is stored");
    // Topics and ids are UTF-8 text without NUL, so no stored event can match any other path.
    let Path((topic, event_id)) = path.map_err(|_| missing())?;
    if topic.contains('\0') || event_id.contains('\0') {
        return Err(missing());
    }
    let limit = if all { MAX_ALIKE } else { 1 };
    let events = state.store.event(&topic, &event_id, limit).await.map_err(store_problem)?;
    let mut events = events.into_iter().map(Event::try_from).collect::<Result<Vec<_>, _>>()?;
    if events.is_empty() {
        return Err(missing());
    }
    Ok(if all {
        Json(Events { events, next_cursor: None }).into_response()
    } else {
        Json(events.swap_remove(0)).into_response()
    })
}

/// Returns whether the client accepts NDJSON.
fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().unwrap_or_default().trim() == NDJSON)
}

/// Returns a page as NDJSON; the next cursor is in a header, because each line is an event.
fn as_lines(events: &[Event], next_cursor: Option<String>) -> Result<Response, Problem> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event)
            .map_err(|error| store_problem(sluice_store::StoreError::Failed(error.to_string())))?;
        lines.push(b'\n');
    }
    let next = next_cursor.map(|cursor| [("X-Next-Cursor", cursor)]);
    Ok(([(header::CONTENT_TYPE, NDJSON)], next.map(axum::response::AppendHeaders), Body::from(lines)).into_response())
}
