//! The figures of meters.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_meter::answer::Question;
use sluice_meter::fold::{Length as Stored, MAX_WINDOWS};
use sluice_meter::{Answer, Definition, Window, group};
use sluice_service::problem::Problem;
use sluice_store::meters::{MeterReading, StoredMeter};
use utoipa::ToSchema;

use super::answers::{Figures, FiguresOfWindow, GroupFigure};
use super::definitions::{MAX_BODY, find};
use super::question::{Groups, stored_length};
use super::text;
use crate::api::body;
use crate::api::caller::Caller;
use crate::api::parameters::{FigureGroups, MeterName, Windows};
use crate::api::problem_lists::{ListProblems, QuestionProblems};
use crate::api::problems::{invalid_query, malformed_body, not_found, store_problem};
use crate::api::query::Parameters;
use crate::api::span::{Span, SpanParameters};
use crate::api::state::ApiState;
use crate::api::windows::Length;

/// The largest number of questions in one request.
const MAX_QUESTIONS: usize = 20;
/// How many times a question is asked about a meter that is being changed at the same time.
const ATTEMPTS: usize = 3;

/// Returns the figures of a meter, by windows of time and by groups: exact, from one snapshot. NDJSON or CSV, one line a figure,
/// on request.
#[utoipa::path(get, path = "/meters/{name}", operation_id = "read_meter", tag = "meters",
    params(MeterName, Windows, FigureGroups),
    responses(
        (status = 200, description = "The figures", content((Figures = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"))),
        ListProblems,
    ))]
pub(in crate::api) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let span = SpanParameters::read(&mut parameters)?;
    let (group_by, filter) = (parameters.text("group_by"), parameters.text("filter"));
    parameters.end()?;
    let groups = Groups::read(group_by.as_deref(), filter.as_deref())?;
    let fields = groups.group_by.clone();
    let figures = figures(&state, &caller, &name, span, groups).await?;
    Ok(match text::Form::wanted(&headers) {
        None => Json(figures).into_response(),
        Some(form) => ([(header::CONTENT_TYPE, form.content_type())], form.write(&figures, &fields)).into_response(),
    })
}

/// Several questions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Questions {
    /// At most 20.
    #[schema(max_items = 20)]
    queries: Vec<MeterQuery>,
}

/// A question about a meter: the parameters of `GET /meters/{name}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MeterQuery {
    /// The name of the meter.
    #[schema(example = "sales")]
    meter: String,
    /// The first time (RFC 3339): a day before `to` by default.
    #[schema(example = "2026-11-28T00:00:00Z", format = DateTime)]
    from: Option<String>,
    /// The time after the last one (RFC 3339): now by default.
    #[schema(example = "2026-11-29T00:00:00Z", format = DateTime)]
    to: Option<String>,
    /// The length of a window: `hour` by default.
    #[schema(value_type = Option<Length>, inline, example = "day")]
    window: Option<String>,
    /// The time zone in which windows begin: `UTC` by default.
    #[schema(example = "Europe/Berlin", pattern = "^[A-Za-z][A-Za-z0-9_+/-]*$")]
    tz: Option<String>,
    /// Fields of the meter by which figures are grouped, each once.
    #[serde(default)]
    #[schema(example = json!(["source"]), max_items = 4)]
    group_by: Vec<String>,
    /// Fields of the meter with the value that they must have; null is an event without it.
    #[serde(default)]
    #[schema(example = json!({"source": "shop"}))]
    filter: BTreeMap<String, Option<String>>,
}

/// The answers to several questions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct AllFigures {
    /// In the order of the questions.
    results: Vec<Figures>,
}

/// Returns the figures of several meters, each from a snapshot of its own. An error names the question by its `index`, and then
/// nothing is answered.
#[utoipa::path(post, path = "/meters/query", operation_id = "query_meters", tag = "meters",
    request_body = Questions,
    responses(
        (status = 200, description = "The figures", body = AllFigures),
        QuestionProblems,
    ))]
pub(in crate::api) async fn query(
    State(state): State<ApiState>,
    caller: Caller,
    body: Body,
) -> Result<Json<AllFigures>, Problem> {
    let body = body::read(body, MAX_BODY).await?;
    let questions: Questions = serde_json::from_slice(&body).map_err(|error| malformed_body(&error.to_string()))?;
    if questions.queries.len() > MAX_QUESTIONS {
        return Err(invalid_query("queries", &format!("must be at most {MAX_QUESTIONS}")));
    }
    let mut results = Vec::with_capacity(questions.queries.len());
    for (index, query) in questions.queries.into_iter().enumerate() {
        let figures = one(&state, &caller, query).await;
        results.push(figures.map_err(|problem| problem.of_item(index))?);
    }
    Ok(Json(AllFigures { results }))
}

async fn one(state: &ApiState, caller: &Caller, query: MeterQuery) -> Result<Figures, Problem> {
    let MeterQuery { meter, from, to, window, tz, group_by, filter } = query;
    let time = |name: &str, text: Option<String>| {
        text.map(|text| text.parse().map_err(|error| invalid_query(name, &format!("{error}")))).transpose()
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    let window = window.map(|text| text.parse().map_err(|error: String| invalid_query("window", &error)));
    let span = SpanParameters { from, to, window: window.transpose()?, tz };
    figures(state, caller, &meter, span, Groups { group_by, filter }).await
}

/// Reads the figures of a meter. If it is changed at the same time, asks again.
async fn figures(
    state: &ApiState,
    caller: &Caller,
    name: &str,
    span: SpanParameters,
    groups: Groups,
) -> Result<Figures, Problem> {
    let span = span.span()?;
    for _ in 0..ATTEMPTS {
        let meter = find(state, caller, name).await?.shown;
        let question = groups.clone().question(&meter.definition, &span)?;
        let Some(answer) = answer(state, &meter, stored_length(&span), question.clone()).await? else { continue };
        let mut without_window = Vec::new();
        if meter.windows >= MAX_WINDOWS {
            let question = Question { boundaries: vec![0, 1], ..question };
            let beyond = self::answer(state, &meter, Stored::Beyond, question).await?;
            let windows = beyond.iter().flat_map(|beyond| beyond.windows());
            without_window = windows.flat_map(|window| of_window(window, &meter.definition, &groups)).collect();
        }
        return Ok(shape(meter, &span, &groups, &answer, without_window));
    }
    Err(not_found("the meter is being changed"))
}

async fn answer(
    state: &ApiState,
    meter: &StoredMeter,
    length: Stored,
    question: Question,
) -> Result<Option<Answer>, Problem> {
    match state.store.read_meter(meter.id, length, question).await.map_err(store_problem)? {
        MeterReading::Figures(answer) => Ok(Some(answer)),
        MeterReading::Gone => Ok(None),
        MeterReading::TooLarge => {
            let most = sluice_meter::answer::MAX_FIGURES;
            Err(invalid_query(
                "group_by",
                &format!("there would be more than {most} figures; ask for fewer windows or groups"),
            ))
        }
    }
}

fn shape(
    meter: StoredMeter,
    span: &Span,
    groups: &Groups,
    answer: &Answer,
    without_window: Vec<GroupFigure>,
) -> Figures {
    let windows: Vec<_> = span
        .ends()
        .zip(answer.windows())
        .map(|((start, end), window)| FiguresOfWindow {
            start,
            end,
            groups: of_window(window, &meter.definition, groups),
        })
        .collect();
    let is_bound = |figure: &GroupFigure| figure.lower_bound;
    let exact = !answer.has_left_out() && !windows.iter().flat_map(|window| &window.groups).any(is_bound);
    Figures {
        complete: meter.is_complete(),
        meter: meter.name,
        aggregation: meter.definition.aggregation.name(),
        window: span.length.name(),
        tz: span.tz.clone(),
        exact,
        windows,
        without_window,
    }
}

/// Returns the figures of a window, in the order of the values of their groups.
fn of_window(window: &Window, definition: &Definition, groups: &Groups) -> Vec<GroupFigure> {
    let mut sorted: Vec<_> = window.groups().map(|(key, figure)| (group::values(key), figure)).collect();
    // Those without a group are last.
    sorted.sort_by(|(a, _), (b, _)| (a.is_none(), a).cmp(&(b.is_none(), b)));
    let figures = sorted.into_iter().map(|(values, figure)| {
        let fields = values.map(|values| {
            let named = groups.group_by.iter().cloned().zip(values);
            named.map(|(field, value)| (field, value.map(str::to_owned))).collect()
        });
        let shown = figure.shown(definition.aggregation);
        GroupFigure {
            group: fields,
            value: (!shown.is_erased).then(|| shown.value.to_string()),
            events: shown.events,
            lower_bound: !shown.is_exact,
        }
    });
    figures.collect()
}
