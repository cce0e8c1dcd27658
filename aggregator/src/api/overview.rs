//! `/overview`: what a person wants to know at a glance, in one answer. The page asks for it every two seconds, and however many
//! pages are open, the store and the log are asked once in that time.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_event::Timestamp;
use sluice_log::Backlog;
use sluice_service::code::Code;
use sluice_service::problem::Problem;
use sluice_store::{Patterns, Statistics, StoreError};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem_lists::OverviewProblems;
use super::query::Parameters;
use super::state::ApiState;
use super::stats::{Consumer, LOG_DEADLINE, TopicCounts, ask_log};
use crate::last_audit::LastAudit;
use crate::latency::{Quantiles, WINDOW};

/// The longest that the store may take. After that the answer is without its part.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// The state of the system. What is not known is null, and never zero.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Overview {
    /// When the answer was made. Other requests within two seconds get the same answer.
    #[schema(format = DateTime)]
    at: String,
    /// The name of the replica that made it.
    #[schema(example = "shop-aggregator-0")]
    replica: String,
    /// Its version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Seconds since it started.
    #[schema(minimum = 0)]
    uptime_seconds: f64,
    /// The counts of all topics; null if the store did not answer. For a token that is bounded by topics, those of its topics.
    #[schema(required)]
    totals: Option<Totals>,
    /// What is in the log; null if it did not answer.
    #[schema(required)]
    log: Option<LogState>,
    /// The replicas that read the log; null if it did not answer.
    #[schema(required)]
    replicas: Option<Vec<Consumer>>,
    /// How long it took, during the last minute, from accepting an event to its row, for the events that this replica stored;
    /// null if there were none.
    #[schema(required)]
    latency: Option<LatencyFigures>,
    /// The last audit that was noted (`sluice-aggregator audit --record`); null if there was none, or the store did not answer.
    #[schema(required)]
    audit: Option<LastAudit>,
    /// What is wrong as this replica sees it, in words. Empty if nothing is.
    notes: Vec<String>,
}

/// The counts of all topics together.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OverviewTotals)]
struct Totals {
    #[serde(flatten)]
    counts: TopicCounts,
    /// Events in dead letters now.
    dead_lettered: u64,
    /// Number of topics.
    topic_count: u64,
    /// The time of arrival back to which duplicates are recognised; null when there is no limit.
    #[schema(format = DateTime, required)]
    dedup_horizon: Option<String>,
}

/// What is in the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct LogState {
    /// Events accepted and not stored yet; null is unknown.
    #[schema(required)]
    backlog: Option<u64>,
    /// Entries that no replica has read yet; null is unknown.
    #[schema(required)]
    unread_entries: Option<u64>,
    /// Entries that a replica has read and not acknowledged.
    pending_entries: u64,
}

/// Latencies in seconds. The two quantiles are too large by a tenth at most.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct LatencyFigures {
    /// The seconds that it looks back.
    window_seconds: u64,
    /// The events that were stored in this time.
    events: u64,
    /// Half of them took no longer.
    #[schema(minimum = 0)]
    p50_seconds: f64,
    /// Of a hundred of them 99 took no longer.
    #[schema(minimum = 0)]
    p99_seconds: f64,
    /// The longest time.
    #[schema(minimum = 0)]
    max_seconds: f64,
}

impl From<Quantiles> for LatencyFigures {
    fn from(Quantiles { events, p50, p99, max }: Quantiles) -> Self {
        let window_seconds = WINDOW.as_secs();
        Self { window_seconds, events, p50_seconds: p50, p99_seconds: p99, max_seconds: max }
    }
}

/// Returns the state of the system at a glance. It is answered while the store or the log does not: their parts are null then,
/// and `notes` says why.
#[utoipa::path(get, path = "/overview", operation_id = "get_overview", tag = "statistics",
    responses(
        (status = 200, description = "The state", body = Overview),
        OverviewProblems,
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref())?.end()?;
    let patterns = caller.patterns();
    let overview = async { serde_json::to_vec(&make(&state, patterns.clone()).await).map(Bytes::from) };
    let overview = state.overviews.get(&patterns, overview).await.map_err(|error| {
        tracing::error!(%error, "the overview cannot be written");
        Problem::new(Code::Internal, "the overview cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], overview).into_response())
}

async fn make(state: &ApiState, patterns: Option<Patterns>) -> Overview {
    let of_store = timeout(STORE_DEADLINE, async {
        let statistics = match &patterns {
            None => state.store.statistics(0).await?,
            Some(patterns) => state.store.statistics_of(patterns, 0).await?,
        };
        Ok::<_, StoreError>((statistics, state.store.last_audit().await?))
    });
    let (of_store, log, ready) = tokio::join!(of_store, ask_log(state), (state.own.ready)());
    let mut notes = ready.unwrap_or_else(|reason| vec![reason]);
    notes.extend(state.own.overdue.notes());
    let (totals, audit) = match of_store {
        // One that a newer version has noted is as good as none.
        Ok(Ok((statistics, audit))) => {
            (Some(Totals::from(statistics)), audit.and_then(|audit| serde_json::from_str(&audit).ok()))
        }
        failed => {
            if let Ok(Err(error)) = failed {
                tracing::debug!(%error, "the overview is without the store's part");
            }
            add_unless_named(&mut notes, "the store", format!("the store gave no counts within {STORE_DEADLINE:?}"));
            (None, None)
        }
    };
    let (log, replicas) = match log {
        Ok((Backlog { events: backlog, lag: unread_entries, pending: pending_entries, .. }, consumers)) => {
            let log = LogState { backlog, unread_entries, pending_entries };
            (Some(log), Some(consumers.into_iter().map(Consumer::from).collect()))
        }
        Err(error) => {
            tracing::debug!(%error, "the overview is without the log's part");
            add_unless_named(&mut notes, "the log", format!("the log gave no backlog within {LOG_DEADLINE:?}"));
            (None, None)
        }
    };
    Overview {
        at: Timestamp::now().to_string(),
        replica: state.own.replica.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: state.started.elapsed().as_secs_f64(),
        totals,
        log,
        replicas,
        audit,
        latency: state.own.latency.quantiles().map(LatencyFigures::from),
        notes,
    }
}

/// Adds a note, unless the readiness check has said already what is wrong with the same part.
fn add_unless_named(notes: &mut Vec<String>, part: &str, note: String) {
    if !notes.iter().any(|note| note.starts_with(part)) {
        notes.push(note);
    }
}

impl From<Statistics> for Totals {
    fn from(statistics: Statistics) -> Self {
        Self {
            counts: statistics.total.into(),
            dead_lettered: statistics.dead_lettered,
            topic_count: statistics.topic_count,
            dedup_horizon: statistics.dedup_horizon.map(|moment| moment.to_string()),
        }
    }
}
