//! The definition of a meter as a request has it, for the OpenAPI document. `sluice_meter` reads it.

// No value of these types is ever built.
#![allow(dead_code, reason = "the types only describe JSON")]

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// How the values of events are made to one figure.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AggregationName {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    Unique,
    Latest,
}

/// The aggregation of a meter that counts events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CountName {
    Count,
}

/// The aggregations of a meter that uses a value of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ValueName {
    Sum,
    Min,
    Max,
    Avg,
    Unique,
    Latest,
}

/// The time that decides the window of an event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimeName {
    Timestamp,
    ReceivedAt,
}

/// A pattern of topics: `*` stands for one or more characters. At most 1,024 bytes of UTF-8.
#[derive(Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 1024, example = "orders")]
struct PatternOfTopics(String);

/// `topic`, `source`, or a JSON pointer into the payload, of at most 256 bytes of UTF-8.
#[derive(Serialize, ToSchema)]
#[schema(max_length = 256, pattern = r"^(topic|source|(/([^~/]|~[01])*){1,16})$", example = "source")]
struct GroupField(String);

fn null() -> Object {
    ObjectBuilder::new().schema_type(Type::Null).build()
}

/// A meter that counts events.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCount {
    #[schema(inline)]
    aggregation: CountName,
    /// None: events are counted, and no value of them.
    #[schema(schema_with = null)]
    value: Option<()>,
    /// Patterns of the topics whose events count; all topics by default.
    #[schema(required = false, inline, min_items = 1, max_items = 32, default = json!(["*"]))]
    topics: Vec<PatternOfTopics>,
    /// What figures are grouped by, each field once.
    #[schema(required = false, inline, max_items = 4, default = json!([]))]
    group_by: BTreeSet<GroupField>,
    #[schema(required = false, inline, default = "timestamp")]
    time: TimeName,
    /// Windows that ended so many days ago are removed; null: none are.
    #[schema(minimum = 1, maximum = 36500)]
    retention_days: Option<u32>,
}

/// A meter that uses a value of events.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    #[schema(inline)]
    aggregation: ValueName,
    /// The place of the value in the payload, as a JSON pointer of at most 256 bytes of UTF-8.
    #[schema(max_length = 256, pattern = r"^(/([^~/]|~[01])*){0,16}$", example = "/amount")]
    value: String,
    /// Patterns of the topics whose events count; all topics by default.
    #[schema(required = false, inline, min_items = 1, max_items = 32, default = json!(["*"]))]
    topics: Vec<PatternOfTopics>,
    /// What figures are grouped by, each field once.
    #[schema(required = false, inline, max_items = 4, default = json!([]))]
    group_by: BTreeSet<GroupField>,
    #[schema(required = false, inline, default = "timestamp")]
    time: TimeName,
    /// Windows that ended so many days ago are removed; null: none are.
    #[schema(minimum = 1, maximum = 36500)]
    retention_days: Option<u32>,
}

/// The definition of a meter.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum NewMeter {
    Count(NewCount),
    Value(NewValue),
}

#[cfg(test)]
mod tests {
    use sluice_meter::Aggregation;
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_names_are_those_of_the_aggregations() {
        let schema = serde_json::to_value(AggregationName::schema()).unwrap();
        let names = Aggregation::ALL.map(|(name, _)| name);
        assert_eq!(schema["enum"], serde_json::json!(names));
    }
}
