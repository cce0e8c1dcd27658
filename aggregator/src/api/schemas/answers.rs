//! Schemas as JSON has them.

use serde::Serialize;
use serde_json::value::RawValue;
use sluice_service::problem::Problem;
use sluice_store::schemas::StoredSchema;
use utoipa::ToSchema;

use crate::api::problems::{no_schema, store_problem};
use crate::api::state::ApiState;
use crate::schema_notice::violations;

/// What becomes of events that do not match: `refuse`, or `count`, which lets them in and counts them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "it only describes JSON")]
pub(super) enum PolicyName {
    Refuse,
    Count,
}

/// A JSON Schema: by `$schema` of draft 4, 6, 7, 2019-09 or 2020-12, by default the last. It refers to nothing outside of
/// itself, and has at most 64 KiB as compact JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"type": "object", "required": ["amount"]}))]
#[allow(dead_code, reason = "it only describes JSON")]
pub(super) enum JsonSchema {
    Boolean(bool),
    #[schema(value_type = Object)]
    Keywords(()),
}

/// A version of the schema of a topic, without the schema itself.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SchemaVersion {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// Its number among those of the topic, from 1.
    #[schema(example = 3)]
    pub version: u32,
    /// What becomes of events that do not match.
    #[schema(value_type = PolicyName, inline)]
    pub policy: &'static str,
    /// When it was put.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was removed, without another one in its place.
    #[schema(format = DateTime, required)]
    pub removed_at: Option<String>,
    /// Whether it is in force: the newest version that was not removed.
    pub in_force: bool,
    /// How many events did not match, as the publishers have told; null if it is not in force, or if the log does not answer.
    #[schema(required)]
    pub violations: Option<u64>,
}

/// A version of the schema of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TopicSchema {
    #[serde(flatten)]
    about: SchemaVersion,
    #[schema(value_type = JsonSchema)]
    schema: Box<RawValue>,
}

/// Returns how many events did not match the schemas in force; `None` if the log does not answer.
pub(super) async fn tallies(state: &ApiState) -> Option<sluice_log::notice::Tallies> {
    let tallies = state.log.tallies().await;
    tallies.inspect_err(|error| tracing::warn!(%error, "cannot read how many events did not match a schema")).ok()
}

/// Describes a version.
pub(super) fn about(
    schema: &StoredSchema,
    in_force: bool,
    tallies: Option<&sluice_log::notice::Tallies>,
) -> SchemaVersion {
    SchemaVersion {
        topic: schema.topic.clone(),
        version: schema.version,
        policy: schema.policy.name(),
        created_at: schema.created_at.to_string(),
        removed_at: schema.removed_at.map(|time| time.to_string()),
        in_force,
        violations: tallies.filter(|_| in_force).map(|tallies| violations(schema, tallies)),
    }
}

/// Returns a version of the schema of a topic; without a number the one that is in force.
pub(super) async fn find(state: &ApiState, topic: &str, version: Option<u32>) -> Result<TopicSchema, Problem> {
    let present = state.store.schema(topic, None).await.map_err(store_problem)?;
    let in_force = present.as_ref().map(|present| present.version);
    let found = match version {
        Some(number) if Some(number) != in_force => {
            state.store.schema(topic, Some(number)).await.map_err(store_problem)?
        }
        _ => present,
    };
    let found = found.ok_or_else(no_schema)?;
    let about = about(&found, Some(found.version) == in_force, tallies(state).await.as_ref());
    let schema = RawValue::from_string(found.schema).map_err(|error| {
        store_problem(sluice_store::StoreError::Damaged(format!("a schema of topic {topic} is no JSON: {error}")))
    })?;
    Ok(TopicSchema { about, schema })
}
