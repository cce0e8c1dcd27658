//! `/conflicts`: events that were dropped because another payload is stored under their key.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use sluice_store::conflicts::{ConflictPage, ConflictQuery, StoredConflict};
use utoipa::ToSchema;

use super::caller::Caller;
use super::parameters::ConflictFilter;
use super::problem_lists::TopicProblems;
use super::problems::store_problem;
use super::query::{Parameters, cursor};
use super::state::ApiState;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// A page of conflicts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConflictPage)]
pub(super) struct Conflicts {
    /// Newest first.
    conflicts: Vec<Conflict>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required, pattern = "^s[0-9a-f]+$")]
    next_cursor: Option<String>,
}

/// An event that was dropped as a duplicate although its payload differs from the stored one.
#[derive(Debug, Serialize, ToSchema)]
struct Conflict {
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
    #[schema(example = "shop", required)]
    source: Option<String>,
    /// As sent: the payload that is not stored.
    #[schema(value_type = Value, required)]
    payload: Option<Box<RawValue>>,
    /// When the publisher received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The `X-Request-Id` of the request that published it.
    #[schema(format = "uuid")]
    request_id: String,
    /// When it was dropped.
    #[schema(format = DateTime)]
    seen_at: String,
}

impl From<StoredConflict> for Conflict {
    fn from(conflict: StoredConflict) -> Self {
        Self {
            topic: conflict.topic,
            event_id: conflict.event_id,
            timestamp: conflict.timestamp.to_string(),
            source: conflict.source,
            payload: RawValue::from_string(conflict.payload).ok(),
            received_at: conflict.received_at.to_string(),
            request_id: conflict.request_id.to_string(),
            seen_at: conflict.seen_at.to_string(),
        }
    }
}

/// Lists conflicts, newest first: events that were dropped as duplicates although their payload differs from the one that is
/// stored. They are kept for `--conflict-retention`, and fewer if they are many. For a token that is bounded by topics a page may
/// have fewer than `limit` although there is a next one.
#[utoipa::path(get, path = "/conflicts", operation_id = "list_conflicts", tag = "events",
    params(ConflictFilter),
    responses(
        (status = 200, description = "A page, which ends at 1 MiB", body = Conflicts),
        TopicProblems,
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Conflicts>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let query = ConflictQuery {
        topic: parameters.text("topic"),
        event_id: parameters.text("event_id"),
        before: parameters.cursor()?,
        limit: parameters.limit(DEFAULT_LIMIT, MAX_LIMIT)?,
    };
    parameters.end()?;
    if let Some(topic) = &query.topic {
        caller.check_topic(topic)?;
    }
    let ConflictPage { conflicts, next } = state.store.conflicts(&query).await.map_err(store_problem)?;
    let conflicts = conflicts.into_iter().filter(|conflict| caller.may_see(&conflict.topic));
    Ok(Json(Conflicts { conflicts: conflicts.map(Conflict::from).collect(), next_cursor: next.map(cursor) }))
}
