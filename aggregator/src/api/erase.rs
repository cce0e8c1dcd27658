//! `DELETE /events/{topic}/{event_id}`: removes what an event contains.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem_lists::LookupProblems;
use super::problems::{not_found, store_problem};
use super::state::ApiState;
use crate::metrics;

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErasedEvent {
    /// The number of stored events of which payload and source were removed: zero if they were erased before, and more than one
    /// if the source is one of the dedup fields.
    #[schema(example = 1)]
    events: u64,
    /// The number of events that were removed from dead letters.
    dead_letters: u64,
    /// The number of conflicts that were removed.
    conflicts: u64,
}

/// Removes the payload and the source of an event, for good. Topic, event id and key stay, so that it stays a duplicate. It is
/// removed from dead letters and conflicts too. What was counted stays counted. It can be repeated.
#[utoipa::path(delete, path = "/events/{topic}/{event_id}", operation_id = "erase_event", tag = "events",
    params(
        ("topic" = String, Path, min_length = 1, max_length = 256, example = "orders", description = "The topic. It must be one of the token's"),
        ("event_id" = String, Path, min_length = 1, max_length = 512, example = "evt-1", description = "The event's id"),
    ),
    responses(
        (status = 200, description = "It has no content any more. An event that was accepted may not be stored yet, and is not found", body = ErasedEvent),
        LookupProblems,
    ))]
pub(super) async fn erase(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ErasedEvent>, Problem> {
    let missing = || not_found("no event with this topic and id is there");
    // Topics and ids are UTF-8 text without NUL, so no event can match any other path.
    let Path((topic, event_id)) = path.map_err(|_| missing())?;
    if topic.contains('\0') || event_id.contains('\0') {
        return Err(missing());
    }
    caller.check_topic(&topic)?;
    let erased = state.store.erase(&topic, &event_id, &state.rules.shard).await.map_err(store_problem)?;
    if !erased.found {
        return Err(missing());
    }
    let (events, dead_letters, conflicts) = (erased.events, erased.dead_letters, erased.conflicts);
    metrics::erased(events);
    let key = state.rules.keyer.key_of(&topic, &event_id, None);
    tracing::info!(subject = caller.name(), topic, %key, events, dead_letters, conflicts, "erased an event");
    Ok(Json(ErasedEvent { events, dead_letters, conflicts }))
}
