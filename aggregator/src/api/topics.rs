//! `/topics`: lists the topics with their counts.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::caller::Caller;
use super::parameters::TopicPage;
use super::problem_lists::ListProblems;
use super::problems::{invalid_query, store_problem};
use super::query::Parameters;
use super::state::ApiState;
use super::stats::TopicCounts;

/// Topics of a page without a `limit`.
const DEFAULT_LIMIT: u32 = 1_000;
const MAX_LIMIT: u32 = 10_000;

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicPage)]
pub(super) struct Topics {
    /// By name, in the order of the database.
    topics: Vec<Topic>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required, pattern = "^t([0-9a-f]{2})+$")]
    next_cursor: Option<String>,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicWithCounts)]
struct Topic {
    /// Its name.
    #[schema(example = "orders")]
    topic: String,
    #[serde(flatten)]
    counts: TopicCounts,
}

/// Lists the topics by name, each with its counts. A token that is bounded by topics gets its topics.
#[utoipa::path(get, path = "/topics", operation_id = "list_topics", tag = "statistics",
    params(TopicPage),
    responses(
        (status = 200, description = "A page of topics", body = Topics),
        ListProblems,
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Topics>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let after = match parameters.text("cursor") {
        Some(text) => Some(read_cursor(&text).ok_or_else(|| invalid_query("cursor", "is not a next_cursor"))?),
        None => None,
    };
    parameters.end()?;
    let page = match caller.patterns() {
        None => state.store.topics(after.as_deref(), limit).await,
        Some(patterns) => state.store.topics_of(&patterns, after.as_deref(), limit).await,
    };
    let page = page.map_err(store_problem)?;
    let topics = page.topics.into_iter().map(|(topic, counts)| Topic { topic, counts: counts.into() });
    Ok(Json(Topics { topics: topics.collect(), next_cursor: page.next.as_deref().map(cursor) }))
}

/// Returns the cursor after a topic: the hexadecimal of its bytes, because a topic may have any characters.
fn cursor(topic: &str) -> String {
    format!("t{}", hex::encode(topic))
}

fn read_cursor(text: &str) -> Option<String> {
    let bytes = hex::decode(text.strip_prefix('t')?).ok()?;
    // PostgreSQL takes no NUL in a text.
    String::from_utf8(bytes).ok().filter(|topic| !topic.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_after_any_topic_is_read_back() {
        for topic in ["", "orders", "ü/%?&", "a\nb"] {
            assert_eq!(read_cursor(&cursor(topic)).as_deref(), Some(topic));
        }
        for text in ["", "s1", "t1", "tzz", "tff", "t00", "t+1"] {
            assert_eq!(read_cursor(text), None, "{text:?}");
        }
    }
}
