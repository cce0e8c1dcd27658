//! How much is measured.

use clap::{Parser, ValueEnum};

/// Measures what Sluice reaches, beside PostgreSQL's COPY on the same rows in the same run, and
/// beside services of the kind that it replaces.
///
/// Starts a Redis and a PostgreSQL of its own, fully durable, in temporary folders. Prints tables,
/// and writes target/bench/results.json. Exits 1 when a block was not stored exactly.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version)]
pub struct Cli {
    /// A run of two minutes instead of ten: fewer rounds, smaller blocks, tables that do not grow
    #[arg(long)]
    quick: bool,
    /// Rounds; what varies little is measured in some of them only, unless --only names it
    /// [default: 6, quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Events in a block, where all are sent in large requests [default: 300000, quick 200000]
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    events: Option<u32>,
    /// Connections that publish, each with one request under way: with fewer the cores are not all used
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// The largest table of the growth, in millions of rows
    #[arg(long, default_value_t = 10, value_name = "MILLIONS", value_parser = clap::value_parser!(u32).range(1..=100))]
    grow_to: u32,
    /// Measure only these, in every round, in any order and case
    #[arg(long, value_name = "WHAT", value_delimiter = ',', ignore_case = true)]
    only: Vec<Measure>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Measure {
    /// Raw COPY
    Copy,
    /// Sluice end to end, all events new
    Dup0,
    /// 30% duplicates
    Dup30,
    /// 90% duplicates
    Dup90,
    /// Two aggregators
    #[value(name = "dup0x2")]
    Dup0x2,
    /// Two aggregators, 30% duplicates
    #[value(name = "dup30x2")]
    Dup30x2,
    /// Two aggregators, 90% duplicates
    #[value(name = "dup90x2")]
    Dup90x2,
    /// Four aggregators
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
    /// The service with Redis and PostgreSQL that stores each event for itself
    PerEventRedisPostgres,
    /// The service with SQLite that stores each event for itself
    PerEventSqlite,
    /// `sluice-aggregator standalone`, on SQLite
    Standalone,
    /// Accepting alone, requests of 1 event
    Ingest1,
    /// Of 10 events
    Ingest10,
    /// Of 100 events
    Ingest100,
    /// Of 1,000 events
    Ingest1000,
    /// The simulator's run of 1,000 events, until it is verified
    Simulate,
    /// Latency at shares of the rate at 30% duplicates, which is measured too
    Latency,
    /// Rates, queries and memory as the tables grow
    Growth,
}

/// What will be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds.
    pub rounds: usize,
    /// What is measured in rounds, with the number of rounds from one time to the next.
    pub blocks: Vec<(Measure, usize)>,
    /// Events that a block receives in requests of 100.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
    /// Latency, if it is measured.
    pub latency: Option<LatencyPlan>,
    /// Growth, if it is measured.
    pub growth: Option<GrowthPlan>,
}

/// How latency is measured.
#[derive(Debug, Clone, Copy)]
pub struct LatencyPlan {
    /// Blocks at half of the highest rate; half as many at the other shares.
    pub blocks: usize,
    /// Seconds of a block.
    pub seconds: f64,
}

/// How growth is measured.
#[derive(Debug, Clone)]
pub struct GrowthPlan {
    /// Stored rows, and the rounds that are run there.
    pub sizes: Vec<(u64, usize)>,
}

impl Measure {
    /// All that is measured in rounds, in the order of a round: rates that are divided by each other
    /// are measured close to each other.
    const ROUND: [Self; 19] = [
        Self::Single,
        Self::Dup0,
        Self::Copy,
        Self::Dup90,
        Self::Dup30,
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
        Self::Ingest10,
        Self::Ingest100,
        Self::Ingest1000,
        Self::Simulate,
    ];

    /// How many rounds pass from one time to the next in a full run.
    fn every(self) -> usize {
        match self {
            Self::Copy | Self::Dup0 | Self::Dup30 | Self::Dup90 | Self::Simulate => 1,
            Self::Single | Self::PerEventRedisPostgres | Self::PerEventSqlite | Self::Standalone => 2,
            _ => 3,
        }
    }

    /// The same in a quick run; 0 is not at all.
    fn every_quick(self) -> usize {
        match self {
            Self::Dup0x2 | Self::Dup90x2 | Self::Dup0x4 | Self::Dup90x4 | Self::Ingest10 => 0,
            Self::Dup30x2 | Self::Dup30x4 | Self::Ingest1 | Self::Ingest100 | Self::Ingest1000 => 2,
            _ => 1,
        }
    }
}

impl From<Cli> for Plan {
    fn from(cli: Cli) -> Self {
        let (rounds, events) = if cli.quick { (2, 200_000) } else { (6, 300_000) };
        let all = cli.only.is_empty();
        let wanted = |measure: Measure| all || cli.only.contains(&measure);
        let every = |measure: Measure| match measure {
            // Latency is measured at shares of its rate.
            Measure::Dup30 if wanted(Measure::Latency) => 1,
            measure if !wanted(measure) => 0,
            _ if !all => 1,
            measure if cli.quick => measure.every_quick(),
            measure => measure.every(),
        };
        let blocks = Measure::ROUND.into_iter().map(|measure| (measure, every(measure)));
        let latency =
            if cli.quick { LatencyPlan { blocks: 2, seconds: 4.0 } } else { LatencyPlan { blocks: 4, seconds: 6.0 } };
        // In a quick run only when it is asked for.
        let grow = if all { !cli.quick } else { wanted(Measure::Growth) };
        let millions = [0, 1, 2, 5, 10, 20, 50, 100].into_iter().filter(|size| *size <= cli.grow_to);
        let sizes = millions.map(|size| (u64::from(size) * 1_000_000, if size == 5 { 5 } else { 3 })).collect();
        Self {
            rounds: cli.rounds.unwrap_or(rounds) as usize,
            blocks: blocks.filter(|(_, every)| *every > 0).collect(),
            events: cli.events.unwrap_or(events) as usize,
            connections: cli.connections.into(),
            latency: wanted(Measure::Latency).then_some(latency),
            growth: grow.then_some(GrowthPlan { sizes }),
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
    fn a_full_run_measures_everything_there_is() {
        let full = plan(&[]);
        let measured = full.blocks.len() + usize::from(full.latency.is_some()) + usize::from(full.growth.is_some());
        assert_eq!(measured, Measure::value_variants().len());
    }

    #[test]
    fn a_quick_run_measures_whatever_a_ratio_needs_but_growth() {
        let quick = plan(&["--quick"]);
        assert!(quick.latency.is_some() && quick.growth.is_none());
        for measure in [Measure::Copy, Measure::Single, Measure::PerEventSqlite, Measure::Standalone] {
            assert!(quick.blocks.contains(&(measure, 1)), "{measure:?}");
        }
        assert!(plan(&["--quick", "--only", "growth"]).growth.is_some());
    }

    #[test]
    fn what_is_chosen_is_measured_in_every_round_and_latency_with_the_rate_that_it_needs() {
        assert_eq!(plan(&["--only", "COPY,dup0x4"]).blocks, [(Measure::Copy, 1), (Measure::Dup0x4, 1)]);
        let latency = plan(&["--only", "latency"]);
        assert_eq!((latency.blocks, latency.growth.is_none()), (vec![(Measure::Dup30, 1)], true));
    }
}
