//! `/stats/series`: exact counts over time.

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::tz::TimeZone;
use serde::Serialize;
use sluice_event::Timestamp;
use sluice_service::problem::Problem;
use sluice_store::TopicSelection;
use sluice_store::series::{Minute, SeriesCounts, SeriesQuery};
use utoipa::ToSchema;

use super::caller::Caller;
use super::problems::{invalid_query, store_problem};
use super::query::Parameters;
use super::state::ApiState;
use super::stats::TopicCounts;
use super::windows::{Length, MAX_WINDOWS, NoWindows, boundaries};

/// The longest that an answer may span, in days: three years.
const MAX_DAYS: i64 = 1_100;
/// Also what an answer spans without the parameter `from`.
const MICROS_OF_A_DAY: i64 = 24 * 3_600 * 1_000_000;
/// The minutes that a store adds up where a window is longer than one. All windows of present time zones begin at a multiple.
const STEP: u32 = 15;

/// What happened to events over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Series {
    /// The length of a window: `minute`, `hour`, `day`, `week` or `month`.
    #[schema(example = "hour")]
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
#[utoipa::path(get, path = "/stats/series", tag = "statistics",
    params(
        ("topic" = Option<String>, Query, description = "Only this topic; all topics by default, or those of the token"),
        ("from" = Option<String>, Query, description = "The first time (RFC 3339): a day before `to` by default. The window that has it is whole"),
        ("to" = Option<String>, Query, description = "The time after the last one (RFC 3339): now by default. At most 1,100 days after `from`"),
        ("window" = Option<String>, Query, description = "`minute`, `hour` (default), `day`, `week` (from Monday) or `month`. At most 10,000 windows"),
        ("tz" = Option<String>, Query, description = "The time zone in which windows begin, as in the IANA database: `UTC` by default"),
    ),
    responses(
        (status = 200, description = "The series", body = Series),
        (status = 400, description = "`invalid_query`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`topic_not_allowed`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_queries`", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "`store_damaged`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`; through a publisher also `query_unavailable`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_too_slow`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Series>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let topic = parameters.text("topic");
    let to: Timestamp = parameters.value("to")?.unwrap_or_else(Timestamp::now);
    let a_day_before = || Timestamp::from_micros(to.as_micros() - MICROS_OF_A_DAY).unwrap_or(to);
    let from = parameters.value("from")?.unwrap_or_else(a_day_before);
    let length = parameters.value("window")?.unwrap_or(Length::Hour);
    let tz = parameters.text("tz").unwrap_or_else(|| "UTC".to_owned());
    parameters.end()?;
    let zone = TimeZone::get(&tz).map_err(|_| invalid_query("tz", "is no time zone of the IANA database"))?;
    let boundaries = windows(length, &zone, from, to)?;
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
    let minute = |time: &jiff::Timestamp| Minute(time.as_second().div_euclid(60));
    let begins_at_a_step = |time: &jiff::Timestamp| time.as_second().rem_euclid(i64::from(STEP) * 60) == 0;
    let step = if length != Length::Minute && boundaries.iter().all(begins_at_a_step) { STEP } else { 1 };
    let ends = (boundaries.first().map(minute), boundaries.last().map(minute));
    let (Some(from), Some(to)) = ends else { return Err(invalid_query("to", "must be after `from`")) };
    let rows = state.store.series(&SeriesQuery { topics, from, to, step }).await.map_err(store_problem)?;
    let mut rows = rows.into_iter().peekable();
    let mut series = Vec::with_capacity(boundaries.len());
    for (start, end) in boundaries.iter().zip(boundaries.iter().skip(1)) {
        let mut sum = SeriesCounts::default();
        while let Some((_, counts)) = rows.next_if(|(row, _)| *row < minute(end)) {
            sum += counts;
        }
        series.push(Window {
            start: local(*start, &zone),
            end: local(*end, &zone),
            counts: sum.counts.into(),
            dead_lettered: sum.dead_lettered,
        });
    }
    Ok(Json(Series { window: length.name(), tz, series }))
}

/// Returns the boundaries of the windows, or an error that names the parameter to change.
fn windows(length: Length, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Result<Vec<jiff::Timestamp>, Problem> {
    if from >= to {
        return Err(invalid_query("to", "must be after `from`"));
    }
    if to.as_micros() - from.as_micros() > MAX_DAYS * MICROS_OF_A_DAY {
        return Err(invalid_query("from", &format!("must be at most {MAX_DAYS} days before `to`")));
    }
    let too_far = |parameter| move |_| invalid_query(parameter, "is too far from the present");
    let first = jiff::Timestamp::from_microsecond(from.as_micros()).map_err(too_far("from"))?;
    let last = jiff::Timestamp::from_microsecond(to.as_micros()).map_err(too_far("to"))?;
    boundaries(length, zone, first, last).map_err(|none| match none {
        NoWindows::TooMany => {
            invalid_query("window", &format!("is too short: there would be more than {MAX_WINDOWS} windows"))
        }
        NoWindows::OutOfRange => invalid_query("to", "is too far from the present"),
    })
}

/// Returns a time as text, with the offset of the zone.
fn local(time: jiff::Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
