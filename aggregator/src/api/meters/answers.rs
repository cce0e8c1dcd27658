//! The figures of meters, as JSON has them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::request::AggregationName;
use crate::api::windows::Length;

/// The figures of a meter.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Figures {
    /// The name of the meter.
    #[schema(example = "sales")]
    pub meter: String,
    /// How values are made to one figure.
    #[schema(value_type = AggregationName, inline, example = "sum")]
    pub aggregation: &'static str,
    /// The length of a window.
    #[schema(value_type = Length, inline, example = "day")]
    pub window: &'static str,
    /// The time zone in which windows begin.
    #[schema(example = "Europe/Berlin")]
    pub tz: String,
    /// Whether the events that were stored before the meter was added are counted.
    pub complete: bool,
    /// Whether all figures are exact. They are not if one is a lower bound, or if events were counted without their group that
    /// may match the filter.
    pub exact: bool,
    /// All windows, the oldest first, also those without events.
    pub windows: Vec<FiguresOfWindow>,
    /// What is counted without a window, because there would be too many of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub without_window: Vec<GroupFigure>,
}

/// The figures of a window.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FiguresOfWindow {
    /// When it begins, in the time zone.
    #[schema(format = DateTime, example = "2026-11-28T00:00:00+01:00")]
    pub start: String,
    /// When the next one begins.
    #[schema(format = DateTime, example = "2026-11-29T00:00:00+01:00")]
    pub end: String,
    /// The groups that have events, in the order of their values.
    pub groups: Vec<GroupFigure>,
}

/// The figure of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::api) struct GroupFigure {
    /// The value of each field by which figures are grouped; null is an event without it. Null instead of an object: events that
    /// are counted without their group, because there would be too many, or a value is too long.
    #[schema(required, example = json!({"source": "shop"}))]
    pub group: Option<BTreeMap<String, Option<String>>>,
    /// The figure, as an exact decimal number in a text. Null if it was the latest value of an event that was erased.
    #[schema(example = "1207.45", pattern = r"^-?[0-9]+(\.[0-9]+)?$")]
    pub value: Option<String>,
    /// The number of events that it is made of.
    pub events: u64,
    /// Whether it is only a lower bound: too many different values were counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub lower_bound: bool,
}
