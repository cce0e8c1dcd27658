//! Puts schemas in force and removes them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_schema::Definition;
use sluice_service::problem::Problem;
use sluice_store::schemas::PutSchema;
use utoipa::ToSchema;

use super::answers::{JsonSchema, PolicyName, TopicSchema, find};
use super::dry_run::{DryRun, dry_run};
use crate::api::body;
use crate::api::caller::Caller;
use crate::api::parameters::{DryRunChoice, SchemaTopic};
use crate::api::problem_lists::{LookupProblems, PutSchemaProblems};
use crate::api::problems::{invalid_query, invalid_schema, invalid_topic, no_schema, store_problem, too_many_schemas};
use crate::api::query::Parameters;
use crate::api::state::ApiState;
use crate::{schema_notice, topic_name};

/// The largest body of a request: a schema with white space may have more bytes than it has as compact JSON.
const MAX_BODY: usize = 256 << 10;
/// The number of stored events that a dry run looks at.
const DEFAULT_EVENTS: u32 = 1_000;
const MAX_EVENTS: u32 = 10_000;

/// The schema of a topic, and what becomes of events that do not match it.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it only describes JSON")]
#[serde(deny_unknown_fields)]
struct NewSchema {
    schema: JsonSchema,
    /// What becomes of events that do not match.
    #[schema(inline, default = "refuse", required = false)]
    policy: PolicyName,
}

/// What became of a request to put a schema.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum PutOutcome {
    Put(TopicSchema),
    DryRun(DryRun),
}

/// Puts the schema of a topic in force, as a new version unless it is the same. Publishers check payloads by it a few seconds
/// later at most. With `dry_run=true` nothing is changed: the newest stored events of the topic are compared with it.
#[utoipa::path(put, path = "/topics/{topic}/schema", operation_id = "put_schema", tag = "schemas",
    params(SchemaTopic, DryRunChoice),
    request_body(content = NewSchema, description = "A JSON Schema", examples(
        ("refuse" = (summary = "Refuse orders without an amount", value = json!({"schema": {"type": "object", "required": ["amount"]}}))),
        ("count" = (summary = "Let them in, and count them", value = json!({"schema": {"type": "object"}, "policy": "count"}))),
    )),
    responses(
        (status = 201, description = "The topic had no schema", body = TopicSchema),
        (status = 200, description = "It is another version, or was the same already; with `dry_run=true` what a check of stored events has found", body = PutOutcome),
        PutSchemaProblems,
    ))]
pub(in crate::api) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let is_dry_run = parameters.value::<bool>("dry_run")?.unwrap_or(false);
    let events = if is_dry_run { parameters.value::<u32>("events")? } else { None };
    parameters.end()?;
    let events = events.unwrap_or(DEFAULT_EVENTS);
    if !(1..=MAX_EVENTS).contains(&events) {
        return Err(invalid_query("events", &format!("must be a whole number from 1 to {MAX_EVENTS}")));
    }
    topic_name::check(&topic).map_err(|reason| invalid_topic(&reason))?;
    caller.check_topic(&topic)?;
    let body = body::read(body, MAX_BODY).await?;
    let definition = Definition::parse(&body).map_err(|error| invalid_schema(&error))?;
    if is_dry_run {
        return dry_run(&state, &topic, &definition, events).await.map(|outcome| Json(outcome).into_response());
    }
    let put = state.store.put_schema(&topic, &definition).await.map_err(store_problem)?;
    let status = match put {
        PutSchema::TooMany | PutSchema::TooLarge => return Err(too_many_schemas(put)),
        PutSchema::Added(_) => StatusCode::CREATED,
        PutSchema::Changed(_) | PutSchema::Unchanged(_) => StatusCode::OK,
    };
    tracing::info!(topic, ?put, policy = definition.policy.name(), "put the schema of a topic");
    tell(&state).await;
    Ok((status, Json(find(&state, &topic, None).await?)).into_response())
}

/// Tells the publishers at once. If that fails, it is repeated a few seconds later.
async fn tell(state: &ApiState) {
    if let Err(error) = schema_notice::write(&*state.store, &*state.log).await {
        tracing::warn!(error, "cannot tell the publishers at once which schemas are in force");
    }
}

/// The outcome of removing a schema.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RemovedSchema {
    /// The topic.
    removed: String,
}

/// Removes the schema of a topic: its events are not checked any more. The versions are kept.
#[utoipa::path(delete, path = "/topics/{topic}/schema", operation_id = "remove_schema", tag = "schemas",
    params(SchemaTopic),
    responses(
        (status = 200, description = "The topic has no schema any more", body = RemovedSchema),
        LookupProblems,
    ))]
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(topic): Path<String>,
) -> Result<Json<RemovedSchema>, Problem> {
    caller.check_topic(&topic)?;
    topic_name::check(&topic).map_err(|_| no_schema())?;
    if !state.store.delete_schema(&topic).await.map_err(store_problem)? {
        return Err(no_schema());
    }
    tracing::info!(topic, "removed the schema of a topic");
    tell(&state).await;
    Ok(Json(RemovedSchema { removed: topic }))
}
