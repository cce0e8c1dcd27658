//! `/events`: lists the stored events, newest arrival first, and returns single events by topic and id.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::accept;
use super::caller::Caller;
use super::cloud_event::{BATCH, CloudEvent, Made, ONE};
use super::event::Event;
use super::event_list::{self, Form};
use super::feed::{self, FeedEvents};
use super::parameters::{EventFilter, EventPage};
use super::problem_lists::TopicProblems;
use super::problems::{event_damaged, invalid_query, not_found, store_problem};
use super::query::Parameters;
use super::state::ApiState;
use sluice_store::{EventQuery, TopicSelection};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
/// The maximum number of events in a page when the request has no `limit`.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
/// The same for a page that is not one JSON object: its client need not have it in memory as a whole.
const MAX_LIMIT_STREAMED: u32 = 10_000;
/// The maximum number of events returned that share a topic and an id and differ in other dedup fields.
const MAX_ALIKE: u32 = 64;

// It is written event by event (`event_list`), so this describes it in the OpenAPI document.
/// A page of events.
#[derive(ToSchema)]
#[schema(as = EventPage)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct Events {
    /// Newest arrival first.
    events: Vec<Event>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required, pattern = "^s[0-9a-f]+$")]
    next_cursor: Option<String>,
}

/// A page of the list, or one of the feed.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum ListOrFeed {
    List(Events),
    Feed(FeedEvents),
}

/// One event, or a page of all that share its topic and id.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum OneOrAll {
    One(Event),
    All(Events),
}

/// Lists events, newest arrival first, with filters; as JSON, one per line as NDJSON, or as CloudEvents. A token that is bounded by topics
/// gets the events of its topics. With `order=asc` it is a page of the feed: every event once, in one order, with a cursor that
/// goes on with those that are stored later.
#[utoipa::path(get, path = "/events", operation_id = "list_events", tag = "events",
    params(EventFilter, EventPage),
    responses(
        (status = 200, description = "A page of the list or of the feed; as NDJSON one `Event` on each line, or an array of CloudEvents",
            content((ListOrFeed = "application/json"), (Event = "application/x-ndjson"), (Vec<Made<'static>> = "application/cloudevents-batch+json")),
            headers(
                ("X-Next-Cursor" = Option<String>, description = "As NDJSON or CloudEvents: the next cursor, if there is one"),
                ("X-More" = Option<bool>, description = "The feed as NDJSON or CloudEvents: whether there are more events now"),
                ("X-Repeated-From" = Option<String>, description = "The feed as NDJSON or CloudEvents: where events begin that may come again, if there are such"),
                ("Cache-Control" = Option<String>, description = "The feed: `no-store`"),
            )),
        TopicProblems,
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (form, kind) = form(&headers);
    let mut parameters = Parameters::parse(query.as_deref())?;
    let max = if form == Form::Json { MAX_LIMIT } else { MAX_LIMIT_STREAMED };
    let limit = parameters.limit(DEFAULT_LIMIT, max)?;
    match parameters.text("order").as_deref() {
        None | Some("desc") => {}
        Some("asc") => return feed::page(&state, &caller, parameters, limit, form, kind).await,
        Some(_) => return Err(invalid_query("order", "must be `asc` or `desc`")),
    }
    let mut query = EventQuery {
        topic: parameters.text("topic"),
        topics: TopicSelection::All,
        source: parameters.text("source"),
        since: parameters.value("since")?,
        until: parameters.value("until")?,
        before: parameters.cursor()?,
        limit,
        max_bytes: None,
    };
    parameters.end()?;
    match &query.topic {
        Some(topic) => caller.check_topic(topic)?,
        None => query.topics = caller.topics(&*state.store).await.map_err(store_problem)?,
    }
    let (body, next_cursor) = event_list::body(state.store, query, form).await?;
    let next = next_cursor.map(|cursor| [("X-Next-Cursor", cursor)]);
    Ok(([(header::CONTENT_TYPE, kind)], next.map(AppendHeaders), body).into_response())
}

/// Returns one event by topic and id.
#[utoipa::path(get, path = "/events/{topic}/{event_id}", operation_id = "get_event", tag = "events",
    params(
        ("topic" = String, Path, min_length = 1, max_length = 256, example = "orders", description = "The topic"),
        ("event_id" = String, Path, min_length = 1, max_length = 512, example = "evt-1", description = "The event's id"),
        ("all" = Option<bool>, Query, description = "A page of the events stored with this topic and id, which may be \
            several with other dedup fields: at most 64, first stored first"),
    ),
    responses(
        (status = 200, description = "The event that was stored first; with `all=true` a page", content(
            (OneOrAll = "application/json"),
            (Event = "application/x-ndjson"),
            (Made<'static> = "application/cloudevents+json"),
            (Vec<Made<'static>> = "application/cloudevents-batch+json"),
        )),
        TopicProblems,
    ))]
pub(super) async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
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
    caller.check_topic(&topic)?;
    if all {
        let held = state.alike.place().await?;
        let mut events = state.store.event(&topic, &event_id, MAX_ALIKE).await.map_err(store_problem)?;
        // The topic of a damaged event may be any other.
        events.retain(|event| caller.may_see(&event.topic));
        if events.is_empty() {
            return Err(missing());
        }
        let (form, kind) = form(&headers);
        let body = event_list::whole(events, form, held).await?;
        return Ok(([(header::CONTENT_TYPE, kind)], body).into_response());
    }
    let event = state.store.event(&topic, &event_id, 1).await.map_err(store_problem)?.pop().ok_or_else(missing)?;
    let event = Event::from(event);
    if event.is_damaged() {
        return Err(event_damaged());
    }
    match accept::first(&headers, &[JSON, ONE]) {
        Some(ONE) => Ok(([(header::CONTENT_TYPE, ONE)], Json(CloudEvent::from(&event))).into_response()),
        _ => Ok(Json(event).into_response()),
    }
}

/// Returns the form of a list that the client accepts, and its media type.
fn form(headers: &HeaderMap) -> (Form, &'static str) {
    match accept::first(headers, &[JSON, NDJSON, BATCH]) {
        Some(NDJSON) => (Form::Lines, NDJSON),
        Some(BATCH) => (Form::CloudEvents, BATCH),
        _ => (Form::Json, JSON),
    }
}
