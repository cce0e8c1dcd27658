//! `/conflicts`: events that were dropped because another payload is stored under their key.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use sluice_store::conflicts::{ConflictPage, ConflictQuery, StoredConflict};
use utoipa::ToSchema;

use super::caller::Caller;
use super::problems::store_problem;
use super::query::{Parameters, cursor};
use super::state::ApiState;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// A page of conflicts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Conflicts {
    /// Newest first.
    conflicts: Vec<Conflict>,
    /// The `cursor` of the next page; null at the end.
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
    source: Option<String>,
    /// As sent: the payload that is not stored.
    #[schema(value_type = Value)]
    payload: Option<Box<RawValue>>,
    /// When the publisher received it.
    #[schema(format = DateTime)]
    received_at: String,
    /// The `X-Request-Id` of the request that published it.
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
#[utoipa::path(get, path = "/conflicts", tag = "events",
    params(
        ("topic" = Option<String>, Query, description = "Only this topic. It must be one of the token's"),
        ("event_id" = Option<String>, Query, description = "Only this event id"),
        ("limit" = Option<u32>, Query, description = "The maximum number of conflicts: 100 by default, at most 1,000"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "A page, which ends at 1 MiB", body = Conflicts),
        (status = 400, description = "`invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`topic_not_allowed`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_queries`", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "`store_damaged`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
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
