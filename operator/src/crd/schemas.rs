//! JSON Schemas of topics, which the operator puts into the file that the aggregators read.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A JSON Schema that the payloads of a topic are compared with when they are published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    /// The topic.
    #[schemars(length(min = 1, max = 256))]
    pub topic: String,
    /// What becomes of events that do not match.
    #[serde(default)]
    pub policy: SchemaPolicy,
    /// The JSON Schema, which refers to nothing outside of itself.
    #[schemars(schema_with = "unchecked")]
    pub schema: Map<String, Value>,
}

/// What becomes of events that do not match the schema of their topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SchemaPolicy {
    /// They are refused.
    #[default]
    Refuse,
    /// They are let in, and counted.
    Count,
}

/// Returns the schema of an object with any fields.
fn unchecked(_: &mut SchemaGenerator) -> Schema {
    let mut schema = Schema::default();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    schema
}

/// Returns the file of schemas, as the aggregator reads it.
pub fn file(schemas: &[SchemaSpec]) -> String {
    let schemas: Vec<_> = schemas
        .iter()
        .map(|schema| json!({"topic": schema.topic, "policy": schema.policy, "schema": schema.schema}))
        .collect();
    format!("{:#}\n", json!({ "schemas": schemas }))
}
