//! Shows schemas and their versions.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use sluice_service::problem::Problem;
use utoipa::ToSchema;

use super::answers::{SchemaVersion, TopicSchema, about, find, tallies};
use crate::api::caller::Caller;
use crate::api::parameters::{SchemaTopic, VersionChoice};
use crate::api::problem_lists::{LookupProblems, PlainProblems, TopicProblems};
use crate::api::problems::{no_schema, store_problem};
use crate::api::query::Parameters;
use crate::api::state::ApiState;

/// The schemas that are in force.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SchemaList)]
pub(in crate::api) struct Schemas {
    /// In the order of their topics, without the schemas themselves.
    schemas: Vec<SchemaVersion>,
}

/// Versions of the schema of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SchemaVersions {
    /// The newest first, without the schemas themselves; at most 100 are kept.
    versions: Vec<SchemaVersion>,
}

/// Lists the topics that have a schema. A token that is bounded by topics gets its own.
#[utoipa::path(get, path = "/schemas", operation_id = "list_schemas", tag = "schemas",
    responses(
        (status = 200, description = "The schemas in force", body = Schemas),
        PlainProblems,
    ))]
pub(in crate::api) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<Schemas>, Problem> {
    let schemas = state.store.schemas().await.map_err(store_problem)?;
    let tallies = tallies(&state).await;
    let visible = schemas.iter().filter(|schema| caller.may_see(&schema.topic));
    Ok(Json(Schemas { schemas: visible.map(|schema| about(schema, true, tallies.as_ref())).collect() }))
}

/// Returns the schema of a topic.
#[utoipa::path(get, path = "/topics/{topic}/schema", operation_id = "get_schema", tag = "schemas",
    params(SchemaTopic, VersionChoice),
    responses(
        (status = 200, description = "The schema", body = TopicSchema),
        TopicProblems,
    ))]
pub(in crate::api) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<TopicSchema>, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let version = parameters.value("version")?;
    parameters.end()?;
    caller.check_topic(&topic)?;
    check_text(&topic)?;
    find(&state, &topic, version).await.map(Json)
}

/// Lists the versions of the schema of a topic that are kept, those of a schema that was removed too.
#[utoipa::path(get, path = "/topics/{topic}/schema/versions", operation_id = "list_schema_versions", tag = "schemas",
    params(SchemaTopic),
    responses(
        (status = 200, description = "The versions", body = SchemaVersions),
        LookupProblems,
    ))]
pub(in crate::api) async fn versions(
    State(state): State<ApiState>,
    caller: Caller,
    Path(topic): Path<String>,
) -> Result<Json<SchemaVersions>, Problem> {
    caller.check_topic(&topic)?;
    check_text(&topic)?;
    let versions = state.store.schema_versions(&topic).await.map_err(store_problem)?;
    let Some(newest) = versions.first().map(|newest| newest.version) else { return Err(no_schema()) };
    let tallies = tallies(&state).await;
    let described = versions.iter().map(|version| {
        let in_force = version.version == newest && version.removed_at.is_none();
        about(version, in_force, tallies.as_ref())
    });
    Ok(Json(SchemaVersions { versions: described.collect() }))
}

/// Checks that PostgreSQL can be asked for a topic.
fn check_text(topic: &str) -> Result<(), Problem> {
    if topic.contains('\0') { Err(no_schema()) } else { Ok(()) }
}
