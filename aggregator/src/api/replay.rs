//! Replays dead letters: one by its id, or those that match a filter.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::caller::Caller;
use super::dead_letters::filter;
use super::parameters::DeadLetterPage;
use super::problem_lists::{ReplayMatchingProblems, ReplayProblems};
use super::problems::{not_found, still_refused, store_problem};
use super::query::{Parameters, cursor};
use super::state::ApiState;
use super::stats::TopicCounts;
use crate::metrics;
use sluice_store::inspect::{DeadLetterId, DeadLetterIds, DeadLetterQuery};
use sluice_store::{Counts, StoreError, commit};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
/// The time after which one call replays no further dead letter: a publisher forwards an answer for a minute.
const MAX_DURATION: Duration = Duration::from_secs(20);

/// The outcome of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayedDeadLetter)]
pub(super) struct Replayed {
    replayed: TopicCounts,
}

/// Stores and counts what is in a dead letter, and removes the dead letter, in one transaction. For a token that is bounded
/// by topics, only single events of its topics exist.
#[utoipa::path(post, path = "/dead-letters/{id}/replay", operation_id = "replay_dead_letter", tag = "dead letters",
    params(("id" = i64, Path, minimum = 1, description = "The dead letter's id")),
    responses(
        (status = 200, description = "It is stored, or dropped as a duplicate", body = Replayed),
        ReplayProblems,
    ))]
pub(super) async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Replayed>, Problem> {
    let missing = || not_found("there is no such dead letter");
    let Path(id) = id.map_err(|_| missing())?;
    if !caller.may_see_dead_letter(&*state.store, id).await.map_err(store_problem)? {
        return Err(missing());
    }
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

/// The outcome of a replay of several dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayedDeadLetters)]
pub(super) struct ReplayedMatching {
    /// Whether nothing was changed.
    dry_run: bool,
    /// Dead letters that match, as far as this call looked.
    matched: u64,
    /// The number of events in them.
    events: u64,
    /// Dead letters that are stored now.
    replayed: u64,
    /// Dead letters that the store refused again: they stay.
    still_refused: u64,
    /// What was counted.
    counts: TopicCounts,
    /// The `cursor` of the next call, if there may be more dead letters; null at the end.
    #[schema(required, pattern = "^s[0-9a-f]+$")]
    next_cursor: Option<String>,
}

/// Replays the dead letters that match, newest first, each in a transaction of its own. Those that killed their reader
/// are left out unless their code is named. A token that is bounded by topics replays single events of its topics.
#[utoipa::path(post, path = "/dead-letters/replay", operation_id = "replay_dead_letters", tag = "dead letters",
    params(
        DeadLetterPage,
        ("dry_run" = Option<bool>, Query, description = "Only count what matches, and change nothing"),
    ),
    responses(
        (status = 200, description = "What was done. It may be less than what matches: see `next_cursor`", body = ReplayedMatching),
        ReplayMatchingProblems,
    ))]
pub(super) async fn matching(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<ReplayedMatching>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = parameters.cursor()?;
    let dry_run = parameters.value::<bool>("dry_run")?.unwrap_or(false);
    let filter = filter(&mut parameters, &caller)?;
    parameters.end()?;
    let query = DeadLetterQuery { before, limit, ..filter };
    let DeadLetterIds { dead_letters, mut next } = state.store.dead_letter_ids(&query).await.map_err(store_problem)?;

    let until = Instant::now() + MAX_DURATION;
    let (mut matched, mut events, mut replayed, mut refused) = (0, 0, 0, 0);
    let mut counts = Counts::default();
    let mut last = None;
    for DeadLetterId { id, events: of_letter, .. } in dead_letters {
        if Instant::now() >= until {
            next = last;
            break;
        }
        if !dry_run {
            match commit::replay(&*state.store, &state.rules, id).await {
                Ok(Some(outcome)) => {
                    metrics::committed(&outcome);
                    replayed += 1;
                    counts.received += outcome.counts.received;
                    counts.unique += outcome.counts.unique;
                    counts.duplicates += outcome.counts.duplicates;
                    counts.conflicts += outcome.counts.conflicts;
                }
                // Somebody else replayed or discarded it.
                Ok(None) => {}
                Err(StoreError::Refused { .. }) => refused += 1,
                Err(error) => return Err(store_problem(error)),
            }
        }
        matched += 1;
        events += of_letter;
        last = Some(id);
    }
    tracing::info!(dry_run, matched, replayed, refused, "replayed the dead letters that match");
    let next_cursor = next.map(cursor);
    Ok(Json(ReplayedMatching {
        dry_run,
        matched,
        events,
        replayed,
        still_refused: refused,
        counts: counts.into(),
        next_cursor,
    }))
}
