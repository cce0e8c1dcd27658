//! Meters, which the operator puts into the file that the aggregators read.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::add_rules::add;

/// A meter: exact counts, sums and other figures of events over time and by groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules)]
#[serde(rename_all = "camelCase")]
pub struct MeterSpec {
    /// Its name, under which its figures are read.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9][a-z0-9_.-]*$"))]
    pub name: String,
    /// Patterns of the topics whose events count; all topics by default. `*` stands for one or more characters.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<String>>,
    /// How the values of events are made to one figure.
    pub aggregation: MeterAggregation,
    /// The place of the value in the payload, as a JSON pointer such as `/amount`. Not for `count`.
    #[schemars(length(max = 256), regex(pattern = r"^(/([^/~]|~[01])*)*$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What figures are grouped by: `topic`, `source`, or JSON pointers into the payload.
    #[schemars(
        length(max = 4),
        inner(length(min = 1, max = 256), regex(pattern = r"^(topic|source|(/([^/~]|~[01])*)+)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<String>,
    /// The time that decides the window of an event.
    #[serde(default)]
    pub time: MeterTime,
    /// Windows that ended so many days ago are removed; if absent, none are.
    #[schemars(range(min = 1, max = 36500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<i32>,
}

/// How the values of events are made to one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "as in the documentation of the API")]
pub enum MeterAggregation {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    Unique,
    Latest,
}

/// The time that decides the window of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum MeterTime {
    #[default]
    Timestamp,
    ReceivedAt,
}

/// Adds the rules that no type expresses.
fn rules(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "self.aggregation == 'count' ? !has(self.value) : has(self.value)",
                "a meter needs value, but must not have it with the aggregation count",
                ".value",
            ),
            ("self.name != 'query'", "query is no name of a meter: it is a path of the API", ".name"),
        ],
    );
}

/// Returns the file of meters, as the aggregator reads it.
pub fn file(meters: &[MeterSpec]) -> String {
    let meters: Vec<_> = meters
        .iter()
        .map(|meter| {
            let mut fields = serde_json::json!({
                "name": meter.name,
                "aggregation": meter.aggregation,
                "group_by": meter.group_by,
                "time": match meter.time {
                    MeterTime::Timestamp => "timestamp",
                    MeterTime::ReceivedAt => "received_at",
                },
            });
            let optional = [
                ("topics", meter.topics.as_ref().map(|topics| serde_json::json!(topics))),
                ("value", meter.value.as_ref().map(|value| serde_json::json!(value))),
                ("retention_days", meter.retention_days.map(|days| serde_json::json!(days))),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    fields[name] = value;
                }
            }
            fields
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "meters": meters }))
}
