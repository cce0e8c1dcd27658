//! `/stats`: exact counts, the backlog, and the consumers of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use sluice_log::{Backlog, ConsumerInfo, LogError};
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem_lists::ListProblems;
use super::problems::{invalid_query, store_problem};
use super::query::Parameters;
use super::state::ApiState;
use sluice_store::Counts;

/// How long the log may take to reply. After that the counts are returned without the log's part.
pub(super) const LOG_DEADLINE: Duration = Duration::from_secs(2);
/// Topics of an answer without the parameter `topics`.
const DEFAULT_TOPICS: u32 = 1_000;
const MAX_TOPICS: u32 = 10_000;

/// The counts of a topic or of all topics. `received = unique_processed + duplicate_dropped` always holds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TopicCounts {
    /// Events that arrived.
    received: u64,
    /// Events stored.
    unique_processed: u64,
    /// Events dropped, because they were stored already.
    duplicate_dropped: u64,
    /// Of the duplicates, those whose payload differs from the stored one.
    conflicts: u64,
}

impl From<Counts> for TopicCounts {
    fn from(counts: Counts) -> Self {
        Self {
            received: counts.received,
            unique_processed: counts.unique,
            duplicate_dropped: counts.duplicates,
            conflicts: counts.conflicts,
        }
    }
}

/// All statistics. The counts are of one snapshot of the database. For a token that is bounded by topics, the totals, the
/// topics and the number of topics are those of its topics.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    #[serde(flatten)]
    total: TopicCounts,
    /// Events in dead letters now. Of whole entries, only a token that is not bounded by topics sees the number.
    dead_lettered: u64,
    /// Events accepted and not stored yet; null is unknown, not zero.
    #[schema(required)]
    backlog: Option<u64>,
    /// Whether the log replied: `available` or `unavailable`.
    #[schema(example = "available", pattern = "^(available|unavailable)$")]
    log: &'static str,
    /// The same as `uptime_seconds`, for older clients.
    #[schema(minimum = 0)]
    uptime: f64,
    /// Seconds since this replica started.
    #[schema(minimum = 0)]
    uptime_seconds: f64,
    /// The replicas that read the log.
    consumers: Vec<Consumer>,
    /// The time of arrival back to which duplicates are recognised; null when there is no limit.
    #[schema(format = DateTime, required)]
    dedup_horizon: Option<String>,
    /// Number of topics.
    topic_count: u64,
    /// The topics with the most arrivals, by name.
    topics: BTreeMap<String, TopicCounts>,
}

/// A replica that reads the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Consumer {
    /// Its name.
    name: String,
    /// Entries of the stream handed to it and not acknowledged.
    pending: u64,
    /// Seconds since it last asked for entries.
    #[schema(minimum = 0)]
    idle_seconds: f64,
}

impl From<ConsumerInfo> for Consumer {
    fn from(info: ConsumerInfo) -> Self {
        Self { name: info.name, pending: info.pending, idle_seconds: info.idle.as_secs_f64() }
    }
}

/// Returns exact counts, in total and of the topics with the most arrivals.
#[utoipa::path(get, path = "/stats", operation_id = "get_stats", tag = "statistics",
    params(
        ("topics" = Option<u32>, Query, minimum = 0, maximum = 10000, description = "The maximum number of topics: 1,000 by default, at most 10,000. \
            The totals are always those of all topics"),
    ),
    responses(
        (status = 200, description = "The statistics", body = Stats),
        ListProblems,
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Stats>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let max_topics = parameters.value("topics")?.unwrap_or(DEFAULT_TOPICS);
    if max_topics > MAX_TOPICS {
        return Err(invalid_query("topics", &format!("must be a whole number from 0 to {MAX_TOPICS}")));
    }
    parameters.end()?;
    let patterns = caller.patterns();
    let statistics = async {
        match &patterns {
            None => state.store.statistics(max_topics).await,
            Some(patterns) => state.store.statistics_of(patterns, max_topics).await,
        }
    };
    let (statistics, log) = tokio::join!(statistics, ask_log(&state));
    let statistics = statistics.map_err(store_problem)?;
    let (backlog, consumers, log) = match log {
        Ok((backlog, consumers)) => (backlog.events, consumers, "available"),
        Err(error) => {
            tracing::warn!(%error, "returning statistics without the log's part");
            (None, Vec::new(), "unavailable")
        }
    };
    let uptime = state.started.elapsed().as_secs_f64();
    Ok(Json(Stats {
        total: statistics.total.into(),
        dead_lettered: statistics.dead_lettered,
        backlog,
        log,
        uptime,
        uptime_seconds: uptime,
        consumers: consumers.into_iter().map(Consumer::from).collect(),
        dedup_horizon: statistics.dedup_horizon.map(|moment| moment.to_string()),
        topic_count: statistics.topic_count,
        topics: statistics.topics.into_iter().map(|(topic, counts)| (topic, counts.into())).collect(),
    }))
}

/// Returns the backlog and the consumers, or an error after [`LOG_DEADLINE`].
pub(super) async fn ask_log(state: &ApiState) -> Result<(Backlog, Vec<ConsumerInfo>), LogError> {
    let both = async { tokio::try_join!(state.log.backlog(), state.log.consumers()) };
    let late = |_| LogError::Unavailable(format!("no answer within {LOG_DEADLINE:?}"));
    tokio::time::timeout(LOG_DEADLINE, both).await.map_err(late)?
}
