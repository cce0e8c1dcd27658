//! `/dead-letters`: lists entries and events that could not be stored, and replays them.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::problems::{not_found, still_refused, store_problem};
use super::query::{Parameters, cursor};
use super::state::ApiState;
use super::stats::TopicCounts;
use crate::metrics;
use sluice_store::StoreError;
use sluice_store::commit;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
/// The maximum number of events that are returned with a dead letter that is a whole entry.
const MAX_SHOWN: usize = 10;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetters {
    /// Newest first.
    dead_letters: Vec<DeadLetter>,
    /// The `cursor` of the next page; null at the end.
    next_cursor: Option<String>,
}

/// An entry or event that could not be stored.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetter {
    /// The id, as the replay takes it.
    id: i64,
    /// When it became a dead letter.
    #[schema(format = DateTime)]
    failed_at: String,
    /// The database's error code; for a whole entry `undecodable` or `kills_its_reader`.
    #[schema(example = "23514")]
    code: String,
    /// The reason as text.
    reason: String,
    /// The number of events in it.
    events: u64,
    /// The topic, if it is a single event.
    topic: Option<String>,
    /// The event's id, if it is a single event.
    event_id: Option<String>,
    /// The position of its entry in the log.
    position: String,
    /// The first 10 events in it; empty when it cannot be decoded.
    content: Vec<Shown>,
}

/// An event in a dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct Shown {
    topic: String,
    event_id: String,
    #[schema(format = DateTime)]
    timestamp: String,
    source: Option<String>,
    #[schema(value_type = Value)]
    payload: Option<Box<RawValue>>,
    request_id: String,
}

impl From<sluice_store::DeadLetter> for DeadLetter {
    fn from(stored: sluice_store::DeadLetter) -> Self {
        let letter = stored.content;
        let content = content(&letter.body);
        let (topic, event_id) = letter.event.unzip();
        Self {
            id: stored.id,
            failed_at: stored.failed_at.to_string(),
            code: letter.code,
            reason: letter.reason,
            events: letter.events,
            topic,
            event_id,
            position: letter.position.to_string(),
            content,
        }
    }
}

/// Returns the first events of a dead letter's body; none when it cannot be decoded.
fn content(body: &[u8]) -> Vec<Shown> {
    let Ok(body) = sluice_event::compressed::expand(body) else { return Vec::new() };
    let Ok(entry) = sluice_event::entry::decode(&body) else { return Vec::new() };
    let events = entry.requests.iter().flat_map(|request| request.events.iter().map(move |event| (request.id, event)));
    let shown = events.take(MAX_SHOWN).map(|(request_id, event)| Shown {
        topic: event.topic.to_string(),
        event_id: event.event_id.to_string(),
        timestamp: event.timestamp.to_string(),
        source: event.source.as_ref().map(ToString::to_string),
        payload: RawValue::from_string(event.payload.to_string()).ok(),
        request_id: request_id.to_string(),
    });
    shown.collect()
}

/// Lists the dead letters, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters",
    params(
        ("limit" = Option<u32>, Query, description = "The maximum number of dead letters: 100 by default, at most 1,000"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "A page", body = DeadLetters),
        (status = 400, description = "`invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_queries`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeadLetters>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = parameters.cursor()?;
    parameters.end()?;
    let mut letters = state.store.dead_letters(before, limit + 1).await.map_err(store_problem)?;
    let more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    let next_cursor = if more { letters.last().map(|letter| cursor(letter.id)) } else { None };
    Ok(Json(DeadLetters { dead_letters: letters.into_iter().map(DeadLetter::from).collect(), next_cursor }))
}

/// The outcome of a replay.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: TopicCounts,
}

/// Stores and counts what is in a dead letter, and removes the dead letter, in one transaction.
#[utoipa::path(post, path = "/dead-letters/{id}/replay", tag = "dead letters",
    params(("id" = i64, Path, description = "The dead letter's id")),
    responses(
        (status = 200, description = "It is stored, or dropped as a duplicate", body = Replayed),
        (status = 404, description = "`not_found`: there is no such dead letter, or not any more", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`still_refused`: it stays a dead letter", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn replay(
    State(state): State<ApiState>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Replayed>, Problem> {
    let missing = || not_found("there is no such dead letter");
    let Path(id) = id.map_err(|_| missing())?;
    match commit::replay(&*state.store, &state.rules, id).await {
        Ok(Some(outcome)) => {
            tracing::info!(id, "replayed a dead letter");
            metrics::committed(&outcome);
            Ok(Json(Replayed { replayed: outcome.counts.into() }))
        }
        Ok(None) => Err(missing()),
        Err(error @ StoreError::Refused { .. }) => Err(still_refused(&error)),
        Err(error) => Err(store_problem(error)),
    }
}
