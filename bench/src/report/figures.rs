//! The numbers that a scenario measures, and their median and range over several rounds.

use serde_json::{Value, json};

/// The name of the rate that scenarios are compared by: events that were received and then stored, or dropped
/// as duplicates, in thousands per second.
pub const RATE: &str = "k events/s";

/// The kind of a figure. It decides the order, the unit and the heading in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Thousands of events per second.
    Rate,
    /// A rate divided by another of the same round.
    Ratio,
    /// A duration, in s.
    Seconds,
    /// From the scheduled time of a request to its response, in ms.
    Publish,
    /// From the scheduled time of a request until its last row is visible, in ms.
    Row,
    /// The mean duration of a part of that, in ms.
    Stage,
    /// The duration of one append and one transaction by the servers alone, in ms.
    Probe,
    /// The duration of a query, in ms.
    Query,
    /// CPU time per event received, in µs.
    Cpu,
    /// Bytes per stored row.
    Postgres,
    /// Bytes per event.
    Redis,
    /// Resident memory before the first request, in MiB.
    Idle,
    /// Resident memory at rest after the rows were stored, in MiB.
    AtRest,
    /// The most memory that was resident, in MiB.
    Resident,
    /// What happened while the scenario ran, such as the size of the backlog. Units differ.
    Course,
}

impl Group {
    /// Returns the heading in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rate => "Rate",
            Self::Ratio => "Ratio",
            Self::Seconds => "Duration, s",
            Self::Publish => "Latency of /publish, ms",
            Self::Row => "From POST to row, ms",
            Self::Stage => "Of that, mean, ms",
            Self::Probe => "Append and transaction alone, ms",
            Self::Query => "Latency of queries, ms",
            Self::Cpu => "CPU, µs per event received",
            Self::Postgres => "PostgreSQL, bytes per stored row",
            Self::Redis => "Redis at its peak, bytes",
            Self::Idle => "Resident memory at idle, MiB",
            Self::AtRest => "Memory with these rows stored, MiB",
            Self::Resident => "Most resident memory, MiB",
            Self::Course => "While the scenario ran",
        }
    }

    /// Returns the name in `results.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Ratio => "ratio",
            Self::Seconds => "seconds",
            Self::Publish => "publish_ms",
            Self::Row => "row_ms",
            Self::Stage => "stage_ms",
            Self::Probe => "probe_ms",
            Self::Query => "query_ms",
            Self::Cpu => "cpu_us_per_event",
            Self::Postgres => "postgres_bytes_per_row",
            Self::Redis => "redis_bytes",
            Self::Idle => "rss_mib_idle",
            Self::AtRest => "memory_mib",
            Self::Resident => "rss_mib",
            Self::Course => "course",
        }
    }

    /// Formats a value for the table.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3}"),
            Self::Ratio if value >= 10.0 => format!("{value:.0}"),
            Self::Ratio | Self::Cpu => format!("{value:.2}"),
            Self::Resident | Self::Idle | Self::Publish | Self::Row | Self::Stage | Self::Probe | Self::Query => {
                format!("{value:.1}")
            }
            Self::Course | Self::Rate | Self::AtRest if value < 10.0 && value.fract() > 0.0 => format!("{value:.1}"),
            Self::Rate | Self::Postgres | Self::Redis | Self::AtRest | Self::Course => format!("{value:.0}"),
        }
    }
}

/// One number of one scenario in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The kind, which gives the unit.
    pub group: Group,
    /// What was measured.
    pub name: String,
    /// The value, in the group's unit.
    pub value: f64,
}

/// All numbers of one scenario in one round.
#[derive(Debug, Clone, Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, group: Group, name: impl Into<String>, value: f64) {
        self.0.push(Figure { group, name: name.into(), value });
    }

    /// Returns the value of a figure.
    pub fn get(&self, group: Group, name: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.group == group && figure.name == name).map(|figure| figure.value)
    }
}

/// The median and the range of one figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The value in the middle, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// Computes it of values in any order. Returns `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let lower = values[(values.len() - 1) / 2];
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// Returns the object for `results.json`.
    pub fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    /// Formats it for the table: `median (min–max)`.
    pub fn show(self, group: Group) -> String {
        format!("{} ({}–{})", group.show(self.median), group.show(self.min), group.show(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }
}
