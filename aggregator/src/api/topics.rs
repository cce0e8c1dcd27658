//! `/topics`: lists the topics with their counts.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::problems::store_problem;
use super::state::ApiState;
use super::stats::TopicCounts;

/// All topics.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Topics {
    /// By name.
    topics: Vec<Topic>,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
struct Topic {
    /// Its name.
    #[schema(example = "orders")]
    topic: String,
    #[serde(flatten)]
    counts: TopicCounts,
}

/// Lists the topics by name, each with its counts.
#[utoipa::path(get, path = "/topics", tag = "statistics", responses(
    (status = 200, description = "All topics", body = Topics),
    (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
    (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<Topics>, Problem> {
    let statistics = state.store.statistics().await.map_err(store_problem)?;
    let topics = statistics.topics.into_iter().map(|(topic, counts)| Topic { topic, counts: counts.into() });
    Ok(Json(Topics { topics: topics.collect() }))
}
