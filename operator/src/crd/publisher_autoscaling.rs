//! Autoscaling of the publishers by CPU.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Autoscaling of the publishers by CPU. The operator creates a HorizontalPodAutoscaler, which needs the metrics of the
/// cluster (metrics-server).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::autoscaling)]
#[serde(rename_all = "camelCase")]
pub struct PublisherAutoscaling {
    /// Minimum number of publishers.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "two")]
    pub min_replicas: i32,
    /// Maximum number of publishers.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Average CPU use of the publishers, in percent of their CPU request, above which publishers are added.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "seventy")]
    pub target_cpu_percent: i32,
    /// Seconds for which fewer publishers must have been sufficient before publishers are removed.
    #[schemars(range(min = 0, max = 3600))]
    #[serde(default = "five_minutes")]
    pub stabilization_seconds: i32,
}

fn two() -> i32 {
    2
}

fn seventy() -> i32 {
    70
}

fn five_minutes() -> i32 {
    300
}
