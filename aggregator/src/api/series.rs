//! `/stats/series`: exact counts over time.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use sluice_service::problem::Problem;
use sluice_store::TopicSelection;
use sluice_store::series::{Minute, SeriesCounts, SeriesQuery};
use utoipa::ToSchema;

use super::caller::Caller;
use super::parameters::{SeriesTopic, Windows};
use super::problem_lists::TopicProblems;
use super::problems::{invalid_query, store_problem};
use super::query::Parameters;
use super::span::SpanParameters;
use super::state::ApiState;
use super::stats::TopicCounts;
use super::windows::Length;

/// The minutes that a store adds up where a window is longer than one. All windows of present time zones begin at a multiple.
const STEP: u32 = 15;

/// What happened to events over time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CountSeries)]
pub(super) struct Series {
    /// The length of a window.
    #[schema(value_type = Length, inline, example = "hour")]
    window: &'static str,
    /// The time zone in which windows begin.
    #[schema(example = "Europe/Berlin")]
    tz: String,
    /// All windows, the oldest first, also those without events.
    series: Vec<Window>,
}

/// What happened to the events that were accepted in a window.
#[derive(Debug, Serialize, ToSchema)]
struct Window {
    /// When it begins, in the time zone.
    #[schema(format = DateTime, example = "2026-11-28T13:00:00+01:00")]
    start: String,
    /// When the next one begins.
    #[schema(format = DateTime, example = "2026-11-28T14:00:00+01:00")]
    end: String,
    #[serde(flatten)]
    counts: TopicCounts,
    /// Events that became dead letters, whatever became of these. Of whole entries, only an answer about all topics has them.
    dead_lettered: u64,
}

/// Returns exact counts by windows of the time at which events were accepted.
#[utoipa::path(get, path = "/stats/series", operation_id = "get_stats_series", tag = "statistics",
    params(SeriesTopic, Windows),
    responses(
        (status = 200, description = "The series", body = Series),
        TopicProblems,
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Series>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let topic = parameters.text("topic");
    let span = SpanParameters::read(&mut parameters)?;
    parameters.end()?;
    let span = span.span()?;
    let topics = match topic {
        Some(topic) => {
            caller.check_topic(&topic)?;
            Some(vec![topic])
        }
        None => match caller.topics(&*state.store).await.map_err(store_problem)? {
            TopicSelection::All => None,
            TopicSelection::Listed(topics) => Some(topics.to_vec()),
            TopicSelection::Matching(_) => {
                return Err(invalid_query("topic", "must be given: the token may read too many topics"));
            }
        },
    };
    let step = if span.length != Length::Minute && span.begins_at_multiples_of(i64::from(STEP)) { STEP } else { 1 };
    let minutes = span.minutes();
    let ends = (minutes.first().copied().map(Minute), minutes.last().copied().map(Minute));
    let (Some(from), Some(to)) = ends else { return Err(invalid_query("to", "must be after `from`")) };
    let rows = state.store.series(&SeriesQuery { topics, from, to, step }).await.map_err(store_problem)?;
    let mut rows = rows.into_iter().peekable();
    let mut series = Vec::with_capacity(minutes.len());
    for ((start, end), last) in span.ends().zip(minutes.into_iter().skip(1)) {
        let mut sum = SeriesCounts::default();
        while let Some((_, counts)) = rows.next_if(|(row, _)| row.0 < last) {
            sum += counts;
        }
        series.push(Window { start, end, counts: sum.counts.into(), dead_lettered: sum.dead_lettered });
    }
    Ok(Json(Series { window: span.length.name(), tz: span.tz, series }))
}
