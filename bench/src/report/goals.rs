//! The goals: figures with a name in `results.json` that stays, and the value that each should reach.

use super::figures::{Group, Spread};
use super::results::Results;
use super::table;

/// The name of a rate divided by that of COPY into a table like Sluice's.
pub const TO_COPY: &str = "to COPY";
/// The name of a rate divided by that of COPY into the table that stays as it is.
pub const TO_COPY_FIXED: &str = "to COPY into the fixed table";
/// The name of a rate divided by that of a service that stores one event per transaction.
pub const TO_SERVICE: &str = "to the service";
/// The name of a rate divided by that of the service that stores a request in one transaction.
pub const TO_PEER: &str = "to the batched peer";
/// The name of the rate with requests of one event divided by that with requests of 100.
pub const TO_100: &str = "to requests of 100";
/// The name of the rate of accepting requests of one event divided by that of the bare server.
pub const TO_BARE: &str = "to the bare server";
/// The name of a rate of requests with a token divided by that without authentication.
pub const TO_ANYBODY: &str = "to requests without a token";
/// The name of a rate of requests with a JWT divided by that of the same requests where nobody reads it: a JWT has more
/// bytes than an event, which cost something too.
pub const TO_UNREAD: &str = "to requests whose JWT nobody reads";
/// The name of a rate divided by that on empty tables.
pub const TO_EMPTY: &str = "to empty tables";
/// The name of the CPU time per new event of the programs before partitions divided by that of the present ones.
pub const COST_OF_OLD: &str = "cost of the programs before partitions to the cost of these";
/// The name of the median latency.
pub const P50: &str = "p50";
/// The name of the rate under retention divided by that without.
pub const TO_UNLIMITED: &str = "to no retention";
/// The name of the largest size under retention divided by that at the end of the first window.
pub const SIZE_TO_FIRST: &str = "largest size to that of the first window";
/// The name of the 99th percentile.
pub const P99: &str = "p99";
/// The name of the median latency from POST to row divided by that of the probe.
pub const P50_TO_PROBE: &str = "p50 from POST to row to the probe's";
/// The name of the 99th percentile from POST to row divided by that of the probe.
pub const P99_TO_PROBE: &str = "p99 from POST to row to the probe's";

/// A figure and the value that it should reach.
#[derive(Debug)]
pub struct Goal {
    /// The member of `results.json` that the figure is in.
    pub part: &'static str,
    /// The name of the figure in that member.
    pub key: &'static str,
    /// The title in the report.
    pub title: &'static str,
    /// Where the values are: the keys of the columns, the group and the name.
    from: (&'static [&'static str], Group, &'static str),
    /// The value to reach.
    target: Target,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

use Target::{AtLeast, AtMost};

/// The scenarios at the highest rate, with one aggregator.
const FULL_RATE: &[&str] = &["dup0", "dup30", "dup90"];

/// All goals, in the order of the report.
#[rustfmt::skip]
pub const GOALS: [Goal; 26] = [
    goal("ratios", "copy_fixed_dup0", "end to end, 0% duplicates, to COPY into the fixed table", &["dup0"], Group::Ratio, TO_COPY_FIXED, AtLeast(1.0)),
    goal("ratios", "copy_fixed_dup30", "end to end, 30% duplicates, to COPY into the fixed table", &["dup30"], Group::Ratio, TO_COPY_FIXED, AtLeast(1.3)),
    goal("ratios", "copy_fixed_dup90", "end to end, 90% duplicates, to COPY into the fixed table", &["dup90"], Group::Ratio, TO_COPY_FIXED, AtLeast(2.8)),
    goal("ratios", "copy_dup0", "end to end, 0% duplicates, to COPY", &["dup0"], Group::Ratio, TO_COPY, AtLeast(0.75)),
    goal("ratios", "copy_dup30", "end to end, 30% duplicates, to COPY", &["dup30"], Group::Ratio, TO_COPY, AtLeast(1.05)),
    goal("ratios", "copy_dup90", "end to end, 90% duplicates, to COPY", &["dup90"], Group::Ratio, TO_COPY, AtLeast(2.3)),
    goal("ratios", "per_event_redis_postgres", "to the service with Redis and PostgreSQL", &["dup30"], Group::Ratio, TO_SERVICE, AtLeast(80.0)),
    goal("ratios", "per_event_sqlite", "standalone to the service with SQLite", &["standalone"], Group::Ratio, TO_SERVICE, AtLeast(30.0)),
    goal("ratios", "batched_peer", "to the service that stores a request in one transaction", &["dup30"], Group::Ratio, TO_PEER, AtLeast(6.0)),
    goal("ratios", "row_p50_to_probe", "p50 from POST to row at 20,000 events/s to the probe's", &["rate_20k"], Group::Ratio, P50_TO_PROBE, AtMost(3.0)),
    goal("ratios", "row_p99_to_probe", "p99 from POST to row at 20,000 events/s to the probe's", &["rate_20k"], Group::Ratio, P99_TO_PROBE, AtMost(3.0)),
    goal("latency_ms", "row_p99_20k", "p99 from POST to row at 20,000 events/s, ms", &["rate_20k"], Group::Row, P99, AtMost(35.0)),
    goal("latency_ms", "publish_p99_20k", "p99 of /publish at 20,000 events/s, ms", &["rate_20k"], Group::Publish, P99, AtMost(15.0)),
    goal("ratios", "growth_20m", "rate at 20 million rows to the rate at none", &["rows_20m"], Group::Ratio, TO_EMPTY, AtLeast(0.8)),
    goal("ratios", "growth_50m", "rate at 50 million rows to the rate at none", &["rows_50m"], Group::Ratio, TO_EMPTY, AtLeast(0.7)),
    goal("ratios", "retention", "rate under retention to the rate without", &["retention"], Group::Ratio, TO_UNLIMITED, AtLeast(0.9)),
    goal("ratios", "retention_size", "largest size under retention to that of the first window", &["retention"], Group::Ratio, SIZE_TO_FIRST, AtMost(1.2)),
    goal("ratios", "cost_new_event", "CPU per new event before events lay in partitions to that now", &["dup0"], Group::Ratio, COST_OF_OLD, AtLeast(1.25)),
    goal("ratios", "single_to_100", "requests of one event to requests of 100", &["single"], Group::Ratio, TO_100, AtLeast(0.3)),
    goal("ratios", "single_to_bare", "requests of one event, accepted, to the bare server", &["ingest1"], Group::Ratio, TO_BARE, AtLeast(0.5)),
    goal("ratios", "ingest1_token", "requests of one event with a token to those without", &["ingest1_token"], Group::Ratio, TO_ANYBODY, AtLeast(0.97)),
    goal("ratios", "ingest1_jwt", "requests of one event with a JWT to those where nobody reads it", &["ingest1_jwt"], Group::Ratio, TO_UNREAD, AtLeast(0.97)),
    goal("simulate", "seconds", "the simulator's 1,000 events, from start to verified, s", &["simulate"], Group::Seconds, crate::scenarios::simulate::SECONDS, AtMost(0.5)),
    goal("rss_mib", "aggregator", "resident memory of the aggregator at full rate, MiB", FULL_RATE, Group::Resident, "aggregator", AtMost(64.0)),
    goal("rss_mib", "aggregator_50m", "resident memory of the aggregator with 50 million rows, MiB", &["rows_50m"], Group::AtRest, "aggregator", AtMost(160.0)),
    goal("rss_mib", "publisher", "resident memory of the publisher at full rate, MiB", FULL_RATE, Group::Resident, "publisher", AtMost(32.0)),
];

const fn goal(
    part: &'static str,
    key: &'static str,
    title: &'static str,
    columns: &'static [&'static str],
    group: Group,
    name: &'static str,
    target: Target,
) -> Goal {
    Goal { part, key, title, from: (columns, group, name), target }
}

impl Goal {
    /// Returns what was measured, or `None` if it was not measured.
    pub fn spread(&self, results: &Results) -> Option<Spread> {
        let (columns, group, name) = self.from;
        let columns = columns.iter().filter_map(|key| results.column(key));
        Spread::of(columns.flat_map(|column| column.values(group, name)).collect())
    }
}

/// Returns a table of the goals with what was measured; the median decides whether a goal is reached. Returns
/// an empty text if none of them was measured.
pub fn summary(results: &Results) -> String {
    let head = ["", "median (min–max)", "goal", "reached"].map(str::to_owned);
    let mut rows = Vec::new();
    for goal in &GOALS {
        let Some(spread) = goal.spread(results) else { continue };
        let (target, reached) = match goal.target {
            AtLeast(least) => (format!("≥ {least}"), spread.median >= least),
            AtMost(most) => (format!("≤ {most}"), spread.median <= most),
        };
        let reached = if reached { "yes" } else { "no" };
        rows.push(vec![goal.title.to_owned(), spread.show(goal.from.1), target, reached.to_owned()]);
    }
    if rows.is_empty() { String::new() } else { table::align(&head, &rows) }
}
