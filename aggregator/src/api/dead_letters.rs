//! `/dead-letters`: lists and discards entries and events that could not be stored.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_event::compressed;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::caller::Caller;
use super::parameters::DeadLetterPage;
use super::problem_lists::{DiscardProblems, ListProblems};
use super::problems::{not_found, store_problem};
use super::query::{Parameters, cursor};
use super::state::ApiState;
use sluice_store::inspect::DeadLetterQuery;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub(super) struct DeadLetters {
    /// Newest first.
    dead_letters: Vec<DeadLetter>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required, pattern = "^s[0-9a-f]+$")]
    next_cursor: Option<String>,
}

/// An entry or event that could not be stored.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetter {
    /// The id, as the replay takes it.
    #[schema(minimum = 1)]
    id: i64,
    /// When it became a dead letter.
    #[schema(format = DateTime)]
    failed_at: String,
    /// The database's error code; for a whole entry `damaged`, `undecodable` or `kills_its_reader`.
    #[schema(example = "23514")]
    code: String,
    /// The reason as text.
    reason: String,
    /// The number of events in it.
    events: u64,
    /// The topic, if it is a single event.
    #[schema(required)]
    topic: Option<String>,
    /// The event's id, if it is a single event.
    #[schema(required)]
    event_id: Option<String>,
    /// The position of its entry in the log.
    position: String,
    /// The event, if it is a single event of at most 1 MiB.
    #[schema(max_items = 1)]
    content: Vec<Shown>,
}

/// An event in a dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct Shown {
    topic: String,
    event_id: String,
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(required)]
    source: Option<String>,
    #[schema(value_type = Value, required)]
    payload: Option<Box<RawValue>>,
    #[schema(format = "uuid")]
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

/// Returns the event of a dead letter's body. The store returns the body of a single event only, which is not
/// compressed: a list never expands an entry, and never decodes one that killed its reader.
fn content(body: &[u8]) -> Vec<Shown> {
    if compressed::expanded_len(body) > body.len() {
        return Vec::new();
    }
    let Ok(body) = compressed::expand(body) else { return Vec::new() };
    let Ok(entry) = sluice_event::entry::decode(&body) else { return Vec::new() };
    let events = entry.requests.iter().flat_map(|request| request.events.iter().map(move |event| (request.id, event)));
    let shown = events.take(1).map(|(request_id, event)| Shown {
        topic: event.topic.to_string(),
        event_id: event.event_id.to_string(),
        timestamp: event.timestamp.to_string(),
        source: event.source.as_ref().map(ToString::to_string),
        payload: RawValue::from_string(event.payload.to_string()).ok(),
        request_id: request_id.to_string(),
    });
    shown.collect()
}

/// Reads the parameters that select dead letters, of those that the subject may see.
pub(super) fn filter(parameters: &mut Parameters, caller: &Caller) -> Result<DeadLetterQuery, Problem> {
    Ok(DeadLetterQuery {
        patterns: caller.dead_letter_patterns(),
        code: parameters.text("code"),
        since: parameters.value("since")?,
        until: parameters.value("until")?,
        ..DeadLetterQuery::default()
    })
}

/// Lists the dead letters, newest first. A token that is bounded by topics gets the single events of its topics. Whole
/// entries, whose topics are several or not known, are only for a token that has the scope `admin` and all topics.
#[utoipa::path(get, path = "/dead-letters", operation_id = "list_dead_letters", tag = "dead letters",
    params(DeadLetterPage),
    responses(
        (status = 200, description = "A page", body = DeadLetters),
        ListProblems,
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<DeadLetters>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = parameters.cursor()?;
    let filter = filter(&mut parameters, &caller)?;
    parameters.end()?;
    let query = DeadLetterQuery { before, limit, ..filter };
    let page = state.store.dead_letter_page(&query).await.map_err(store_problem)?;
    let dead_letters = page.dead_letters.into_iter().map(DeadLetter::from).collect();
    Ok(Json(DeadLetters { dead_letters, next_cursor: page.next.map(cursor) }))
}

/// The outcome of discarding.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DiscardedDeadLetter)]
pub(super) struct Discarded {
    /// The number of events in the dead letter.
    discarded: u64,
}

/// Throws a dead letter away. Its events are counted as discarded. For a token that is bounded by topics, only single
/// events of its topics exist.
#[utoipa::path(delete, path = "/dead-letters/{id}", operation_id = "discard_dead_letter", tag = "dead letters",
    params(("id" = i64, Path, minimum = 1, description = "The dead letter's id")),
    responses(
        (status = 200, description = "It is gone", body = Discarded),
        DiscardProblems,
    ))]
pub(super) async fn discard(
    State(state): State<ApiState>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Discarded>, Problem> {
    let missing = || not_found("there is no such dead letter");
    let Path(id) = id.map_err(|_| missing())?;
    if !caller.may_see_dead_letter(&*state.store, id).await.map_err(store_problem)? {
        return Err(missing());
    }
    let discarded = state.store.discard_dead_letter(id, &state.rules.shard).await.map_err(store_problem)?;
    let discarded = discarded.ok_or_else(missing)?;
    tracing::info!(id, events = discarded, "discarded a dead letter");
    Ok(Json(Discarded { discarded }))
}
