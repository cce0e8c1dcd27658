//! Lists, adds, changes and removes meters.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_meter::Definition;
use sluice_meter::definition::check_name;
use sluice_service::problem::Problem;
use sluice_store::meters::{MeterStatus, PutMeter, StoredMeter};
use utoipa::ToSchema;

use crate::api::body;
use crate::api::caller::Caller;
use crate::api::parameters::MeterName;
use crate::api::problem_lists::{PlainProblems, PutMeterProblems};
use crate::api::problems::{invalid_meter, not_found, store_problem, too_many_meters};
use crate::api::state::ApiState;

use super::request::{AggregationName, NewMeter, TimeName};

/// The largest body of a request.
pub(super) const MAX_BODY: usize = 64 << 10;

/// What a meter counts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeterDefinition {
    /// Patterns of the topics whose events count; all topics by default.
    #[schema(example = json!(["orders"]))]
    topics: Vec<String>,
    /// How values are made to one figure.
    #[schema(value_type = AggregationName, inline, example = "sum")]
    aggregation: &'static str,
    /// The place of the value in the payload, as a JSON pointer; not for `count`.
    #[schema(example = "/amount", required)]
    value: Option<String>,
    /// What figures are grouped by, at most four: `topic`, `source`, or JSON pointers into the payload.
    #[schema(example = json!(["source", "/customer/id"]))]
    group_by: Vec<String>,
    /// The time that decides the window of an event.
    #[schema(value_type = TimeName, inline, example = "timestamp")]
    time: &'static str,
    /// Windows that ended so many days ago are removed; null: none are.
    #[schema(example = json!(null), required, minimum = 1, maximum = 36500)]
    retention_days: Option<u32>,
}

impl From<&Definition> for MeterDefinition {
    fn from(definition: &Definition) -> Self {
        let time = match definition.time {
            sluice_meter::TimeField::Timestamp => "timestamp",
            sluice_meter::TimeField::ReceivedAt => "received_at",
        };
        Self {
            topics: definition.topics.clone(),
            aggregation: definition.aggregation.name(),
            value: definition.value.clone(),
            group_by: definition.group_by.iter().map(ToString::to_string).collect(),
            time,
            retention_days: definition.retention_days,
        }
    }
}

/// A meter.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Meter {
    /// Its name.
    #[schema(example = "sales")]
    name: String,
    #[serde(flatten)]
    definition: MeterDefinition,
    /// When it was added, or changed to what it is.
    #[schema(format = DateTime)]
    created_at: String,
    /// Whether the events that were stored before are counted.
    complete: bool,
    /// How much of them is counted, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    progress: f64,
    /// Events that were stored before this time had been removed when it was added, and are not counted; null: none had been.
    #[schema(format = DateTime, required)]
    complete_from: Option<String>,
    /// The number of its windows of a minute.
    windows: u64,
    /// The number of events that have no value that can be used.
    skipped: u64,
    /// One of them, and why.
    #[schema(required)]
    skipped_example: Option<String>,
    /// What it is being changed to: until that is complete, the figures are the former ones.
    #[schema(required)]
    changing_to: Option<Change>,
}

/// What a meter is being changed to.
#[derive(Debug, Serialize, ToSchema)]
struct Change {
    #[serde(flatten)]
    definition: MeterDefinition,
    /// How much of the events that were stored before is counted, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    progress: f64,
}

impl From<MeterStatus> for Meter {
    fn from(MeterStatus { shown, next }: MeterStatus) -> Self {
        let change = |next: StoredMeter| Change { definition: (&next.definition).into(), progress: next.progress() };
        Self {
            definition: (&shown.definition).into(),
            created_at: shown.created_at.to_string(),
            complete: shown.is_complete(),
            progress: shown.progress(),
            complete_from: shown.complete_from.map(|time| time.to_string()),
            windows: shown.windows,
            skipped: shown.skipped,
            skipped_example: shown.example,
            changing_to: next.map(change),
            name: shown.name,
        }
    }
}

/// All meters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeterList)]
pub(in crate::api) struct Meters {
    /// In the order of their names.
    meters: Vec<Meter>,
}

/// Lists the meters. For a token that is bounded by topics, only those exist that count none but its topics.
#[utoipa::path(get, path = "/meters", operation_id = "list_meters", tag = "meters",
    responses(
        (status = 200, description = "The meters", body = Meters),
        PlainProblems,
    ))]
pub(in crate::api) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<Meters>, Problem> {
    let meters = state.store.meters().await.map_err(store_problem)?;
    let visible = meters.into_iter().filter(|meter| may_see(&caller, meter));
    Ok(Json(Meters { meters: visible.map(Meter::from).collect() }))
}

/// Returns whether a meter, and what it is being changed to, count only topics of the subject.
fn may_see(caller: &Caller, meter: &MeterStatus) -> bool {
    let topics = |meter: &StoredMeter| caller.check_patterns(&meter.definition.topics).is_ok();
    topics(&meter.shown) && meter.next.as_ref().is_none_or(topics)
}

/// Returns a meter of this name that the subject may see.
pub(super) async fn find(state: &ApiState, caller: &Caller, name: &str) -> Result<MeterStatus, Problem> {
    let meters = state.store.meters().await.map_err(store_problem)?;
    let found = meters.into_iter().find(|meter| meter.shown.name == name && may_see(caller, meter));
    found.ok_or_else(|| not_found("there is no such meter"))
}

/// Adds a meter, or changes it. It counts each event that is stored from now on in the transaction that stores it; those that
/// were stored before are counted in the background. The figures of a meter that is changed are the former ones until that is
/// done. A token that is bounded by topics may put meters that count none but its topics.
#[utoipa::path(put, path = "/meters/{name}", operation_id = "put_meter", tag = "meters",
    params(MeterName),
    request_body(content = NewMeter, description = "What it counts", examples(
        ("sum" = (summary = "The sum of a value of orders", value = json!({"topics": ["orders"], "aggregation": "sum", "value": "/amount", "group_by": ["source"]}))),
        ("count" = (summary = "The number of all events", value = json!({"aggregation": "count"}))),
    )),
    responses(
        (status = 201, description = "It was added", body = Meter),
        (status = 200, description = "It was changed, or was like this already", body = Meter),
        PutMeterProblems,
    ))]
pub(in crate::api) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    check_name(&name).map_err(|error| invalid_meter(&error))?;
    let definition = Definition::parse(&body::read(body, MAX_BODY).await?).map_err(|error| invalid_meter(&error))?;
    caller.check_patterns(&definition.topics)?;
    // Not to be changed by somebody who may not see it.
    let meters = state.store.meters().await.map_err(store_problem)?;
    if let Some(present) = meters.iter().find(|meter| meter.shown.name == name) {
        caller.check_patterns(&present.shown.definition.topics)?;
    }
    let status = match state.store.put_meter(&name, &definition).await.map_err(store_problem)? {
        PutMeter::TooMany => return Err(too_many_meters()),
        PutMeter::Added => StatusCode::CREATED,
        PutMeter::Changed | PutMeter::Unchanged => StatusCode::OK,
    };
    tracing::info!(name, definition = definition.to_json(), added = status == StatusCode::CREATED, "put a meter");
    let meter = find(&state, &caller, &name).await?;
    Ok((status, Json(Meter::from(meter))).into_response())
}

/// The outcome of removing a meter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedMeter)]
pub(in crate::api) struct Removed {
    /// Its name.
    removed: String,
}

/// Removes a meter with all its figures.
#[utoipa::path(delete, path = "/meters/{name}", operation_id = "remove_meter", tag = "meters",
    params(MeterName),
    responses(
        (status = 200, description = "It is gone", body = Removed),
        PlainProblems,
    ))]
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Removed>, Problem> {
    find(&state, &caller, &name).await?;
    if !state.store.delete_meter(&name).await.map_err(store_problem)? {
        return Err(not_found("there is no such meter"));
    }
    tracing::info!(name, "removed a meter");
    Ok(Json(Removed { removed: name }))
}
