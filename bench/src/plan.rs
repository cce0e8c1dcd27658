//! The options, and the plan that follows from them: which scenarios run, and how often.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::bounds::Hostile;

/// Measures Sluice, and compares it with PostgreSQL's COPY of the same rows in the same run, and with
/// services of the kind that it replaces.
///
/// Starts its own Redis and PostgreSQL, fully durable, in temporary folders. Prints tables, and writes
/// target/bench/results.json. Exits with 1 if what a scenario stored is not exactly what was sent.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version)]
pub struct Cli {
    /// Run three minutes instead of fifteen: fewer rounds, fewer events, tables that do not grow
    #[arg(long)]
    quick: bool,
    /// Number of rounds, and of measurements of latency at each rate; scenarios that vary little run in some rounds only,
    /// unless --only names them
    /// [default: 6, quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Events that a scenario sends in requests of 100 [default: 300000, quick 200000]
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    events: Option<u32>,
    /// Connections that publish, each with one request in flight: fewer leave cores idle
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Size of the largest table when growth is measured, in millions of rows
    #[arg(long, default_value_t = 10, value_name = "MILLIONS", value_parser = clap::value_parser!(u32).range(1..=100))]
    grow_to: u32,
    /// Seconds that `retention` runs, of which nearly three minutes fill the tables
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(240..))]
    retention_seconds: u16,
    /// Measure only these scenarios, in every round; order and case do not matter
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',', ignore_case = true)]
    only: Vec<Scenario>,
    /// Serve as the bare server on this address: how its process is started
    #[arg(long, value_name = "ADDRESS", hide = true)]
    bare_server: Option<String>,
    /// Measure what hostile clients can do instead: all of them, or those that are named
    #[arg(long, value_name = "CLIENT", value_delimiter = ',', num_args = 0.., conflicts_with = "only")]
    bounds: Option<Vec<Hostile>>,
    /// Measure one comparison instead of the scenarios
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["only", "bounds"])]
    compare: Option<Comparison>,
}

impl Cli {
    /// Returns the hostile clients to measure instead of the scenarios; none means all of them.
    pub fn bounds(&self) -> Option<&[Hostile]> {
        self.bounds.as_deref()
    }

    /// Returns the comparison to measure instead of the scenarios, and how it is measured.
    pub fn compare(&self) -> Option<(Comparison, ComparePlan)> {
        let comparison = self.compare?;
        let plan = ComparePlan {
            rounds: self.rounds.unwrap_or(5) as usize,
            events: self.events.unwrap_or(comparison.events()) as usize,
            connections: self.connections.into(),
        };
        Some((comparison, plan))
    }

    /// Returns the address on which this process is to be the bare server, if it is to be that.
    pub fn bare_server(&self) -> Option<&str> {
        self.bare_server.as_deref()
    }
}

/// What is compared only if it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Comparison {
    /// COPY into variants of the table of events
    RowCost,
    /// Sluice with other numbers of streams and aggregators
    Scaling,
    /// Sluice with other settings of PostgreSQL
    ServerSettings,
    /// Sluice without meters and with three
    Meters,
    /// Sluice without traces, with some and with all
    Traces,
}

impl Comparison {
    /// Returns how many events each variant gets, unless it is said.
    fn events(self) -> u32 {
        match self {
            Self::RowCost => 600_000,
            Self::Meters => 2_000_000,
            Self::Traces => 1_000_000,
            Self::Scaling | Self::ServerSettings => 300_000,
        }
    }
}

/// How variants are compared.
#[derive(Debug, Clone, Copy)]
pub struct ComparePlan {
    /// Number of rounds.
    pub rounds: usize,
    /// The number of events, or of rows.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
}

/// Everything that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Scenario {
    /// Raw COPY of rows that Sluice stored, into a table like Sluice's
    Copy,
    /// The same into a table that stays as it is: with a json column and three indexes
    CopyFixed,
    /// Sluice end to end, all events new
    Dup0,
    /// The programs before events lay in partitions, all events new
    Dup0Old,
    /// Sluice end to end, 30% duplicates
    Dup30,
    /// Sluice end to end, 90% duplicates
    Dup90,
    /// Two aggregators, all events new
    #[value(name = "dup0x2")]
    Dup0x2,
    /// Two aggregators, 30% duplicates
    #[value(name = "dup30x2")]
    Dup30x2,
    /// Two aggregators, 90% duplicates
    #[value(name = "dup90x2")]
    Dup90x2,
    /// Four aggregators, all events new
    #[value(name = "dup0x4")]
    Dup0x4,
    /// Four aggregators, 30% duplicates
    #[value(name = "dup30x4")]
    Dup30x4,
    /// Four aggregators, 90% duplicates
    #[value(name = "dup90x4")]
    Dup90x4,
    /// Requests of one event, end to end
    Single,
    /// The service with Redis and PostgreSQL that stores one event per transaction
    PerEventRedisPostgres,
    /// The service with SQLite that stores one event per transaction
    PerEventSqlite,
    /// The service with PostgreSQL that stores all events of a request in one transaction
    BatchedPeer,
    /// `sluice-aggregator standalone`, on SQLite
    Standalone,
    /// Accepting alone, without an aggregator: requests of 1 event
    Ingest1,
    /// A bare server, which reads requests of 1 event and answers them
    Bare,
    /// Accepting alone, requests of 1 event with a token of the file of tokens
    Ingest1Token,
    /// Accepting alone, requests of 1 event with a JWT
    Ingest1Jwt,
    /// Accepting alone, requests of 1 event with a JWT to a publisher without authentication, which does not read it
    Ingest1UnreadJwt,
    /// Accepting alone, requests of 10 events
    Ingest10,
    /// Accepting alone, requests of 100 events
    Ingest100,
    /// Accepting alone, requests of 1,000 events
    Ingest1000,
    /// The simulator with 1,000 events, until it has verified them
    Simulate,
    /// Latency at 5, 20 and 50 thousand events a second, and that of the servers alone
    Latency,
    /// Rates, queries and memory as the tables grow
    Growth,
    /// The rate under retention to that without; only if it is named
    Retention,
}

/// What will be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of rounds.
    pub rounds: usize,
    /// The scenarios that run in rounds. The number says that a scenario runs in every n-th round.
    pub scenarios: Vec<(Scenario, usize)>,
    /// Events that a scenario sends in requests of 100.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
    /// How latency is measured, if it is.
    pub latency: Option<LatencyPlan>,
    /// How growth is measured, if it is.
    pub growth: Option<GrowthPlan>,
    /// How the rate under retention is measured, if it is.
    pub retention: Option<RetentionPlan>,
}

/// How latency is measured.
#[derive(Debug, Clone, Copy)]
pub struct LatencyPlan {
    /// How often latency is measured at each rate.
    pub repetitions: usize,
    /// The seconds of one repetition.
    pub seconds: f64,
}

/// How growth is measured.
#[derive(Debug, Clone)]
pub struct GrowthPlan {
    /// Numbers of stored rows, each with the number of rounds that are run at this size.
    pub sizes: Vec<(u64, usize)>,
}

/// How the rate under retention is measured.
#[derive(Debug, Clone, Copy)]
pub struct RetentionPlan {
    /// How long the system under retention runs.
    pub duration: Duration,
}

impl Scenario {
    /// The scenarios that run in rounds, in this order. Two whose rates are divided by each other stand
    /// close to each other, so that other work on the machine affects both.
    const ROUND: [Self; 26] = [
        Self::Single,
        Self::Dup0Old,
        Self::Dup0,
        Self::Copy,
        Self::CopyFixed,
        Self::Dup90,
        Self::Dup30,
        Self::BatchedPeer,
        Self::PerEventRedisPostgres,
        Self::PerEventSqlite,
        Self::Standalone,
        Self::Dup0x2,
        Self::Dup30x2,
        Self::Dup90x2,
        Self::Dup0x4,
        Self::Dup30x4,
        Self::Dup90x4,
        Self::Ingest1,
        Self::Bare,
        Self::Ingest1Token,
        Self::Ingest1Jwt,
        Self::Ingest1UnreadJwt,
        Self::Ingest10,
        Self::Ingest100,
        Self::Ingest1000,
        Self::Simulate,
    ];

    /// Returns n if the scenario runs in every n-th round of a full run.
    fn every(self) -> usize {
        match self {
            Self::Copy | Self::CopyFixed | Self::Dup0 | Self::Dup30 | Self::Dup90 | Self::Simulate => 1,
            Self::Dup0Old | Self::Single | Self::Ingest1 | Self::Bare | Self::BatchedPeer => 1,
            Self::PerEventRedisPostgres | Self::PerEventSqlite | Self::Standalone => 2,
            _ => 3,
        }
    }

    /// Returns the same for a quick run; 0 means that the scenario does not run.
    fn every_quick(self) -> usize {
        match self {
            Self::Dup0Old | Self::Dup0x2 | Self::Dup90x2 | Self::Dup0x4 | Self::Dup90x4 | Self::Ingest10 => 0,
            Self::Dup30x2
            | Self::Dup30x4
            | Self::Ingest1Token
            | Self::Ingest1Jwt
            | Self::Ingest1UnreadJwt
            | Self::Ingest100
            | Self::Ingest1000 => 2,
            _ => 1,
        }
    }
}

impl From<Cli> for Plan {
    fn from(cli: Cli) -> Self {
        let (rounds, events) = if cli.quick { (2, 200_000) } else { (6, 300_000) };
        let all = cli.only.is_empty();
        let wanted = |scenario: Scenario| all || cli.only.contains(&scenario);
        let every = |scenario: Scenario| match scenario {
            scenario if !wanted(scenario) => 0,
            _ if !all => 1,
            scenario if cli.quick => scenario.every_quick(),
            scenario => scenario.every(),
        };
        let scenarios = Scenario::ROUND.into_iter().map(|scenario| (scenario, every(scenario)));
        let (repetitions, seconds) = if cli.quick { (2, 4.0) } else { (5, 6.0) };
        let latency = LatencyPlan { repetitions: cli.rounds.map_or(repetitions, |rounds| rounds as usize), seconds };
        // A quick run measures growth only if --only names it.
        let grow = if all { !cli.quick } else { wanted(Scenario::Growth) };
        let millions = [0, 1, 2, 5, 10, 20, 50, 100].into_iter().filter(|size| *size <= cli.grow_to);
        let sizes = millions.map(|size| (u64::from(size) * 1_000_000, if size >= 20 { 5 } else { 2 })).collect();
        Self {
            rounds: cli.rounds.unwrap_or(rounds) as usize,
            scenarios: scenarios.filter(|(_, every)| *every > 0).collect(),
            events: cli.events.unwrap_or(events) as usize,
            connections: cli.connections.into(),
            latency: wanted(Scenario::Latency).then_some(latency),
            growth: grow.then_some(GrowthPlan { sizes }),
            // It takes as long as all others together, so it runs only if --only names it.
            retention: cli.only.contains(&Scenario::Retention).then(|| {
                let duration = Duration::from_secs(cli.retention_seconds.into());
                RetentionPlan { duration }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Plan {
        Plan::from(Cli::parse_from(["sluice-bench"].iter().chain(args)))
    }

    #[test]
    fn a_full_run_measures_everything_there_is_but_retention() {
        let full = plan(&[]);
        assert!(full.retention.is_none() && plan(&["--only", "retention"]).retention.is_some());
        let measured = full.scenarios.len() + usize::from(full.latency.is_some()) + usize::from(full.growth.is_some());
        assert_eq!(measured + 1, Scenario::value_variants().len());
    }

    #[test]
    fn a_quick_run_measures_whatever_a_ratio_needs_but_growth_and_the_cost_of_old_programs() {
        let quick = plan(&["--quick"]);
        assert!(quick.latency.is_some() && quick.growth.is_none());
        for scenario in [
            Scenario::Copy,
            Scenario::CopyFixed,
            Scenario::Single,
            Scenario::Bare,
            Scenario::BatchedPeer,
            Scenario::Standalone,
        ] {
            assert!(quick.scenarios.contains(&(scenario, 1)), "{scenario:?}");
        }
        assert!(quick.scenarios.iter().all(|(scenario, _)| *scenario != Scenario::Dup0Old), "a build of minutes");
        assert!(plan(&["--quick", "--only", "growth"]).growth.is_some());
    }

    #[test]
    fn what_is_chosen_is_measured_in_every_round_and_nothing_else_is() {
        assert_eq!(plan(&["--only", "COPY,dup0x4"]).scenarios, [(Scenario::Copy, 1), (Scenario::Dup0x4, 1)]);
        let latency = plan(&["--only", "latency"]);
        assert!(latency.latency.is_some() && latency.scenarios.is_empty() && latency.growth.is_none());
    }
}
