//! How much is measured.

use clap::{Parser, ValueEnum};

/// Measures what Sluice reaches, beside PostgreSQL's COPY on the same rows in the same run.
///
/// Starts a Redis and a PostgreSQL of its own, fully durable, in temporary folders. Prints a table,
/// and writes target/bench/results.json. Exits 1 when a block was not stored exactly.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version)]
pub struct Cli {
    /// A run of about a minute instead of five
    #[arg(long)]
    quick: bool,
    /// Rounds, in each of which everything is measured once [default: 12, quick 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Events in a block [default: 600000, quick 300000]
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    events: Option<u32>,
    /// Connections that publish, each with one request under way
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Measure only these: copy, dup0, dup30, dup90, in any order and case
    #[arg(long, value_name = "BLOCKS", value_delimiter = ',', ignore_case = true)]
    only: Vec<Block>,
}

/// What is measured in one column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Block {
    /// Raw COPY.
    Copy,
    /// Sluice, all events new.
    Dup0,
    /// Sluice, 30% duplicates.
    Dup30,
    /// Sluice, 90% duplicates.
    Dup90,
}

impl Block {
    /// The share of duplicates that are sent, in percent; COPY gets none.
    pub fn duplicate_percent(self) -> Option<u8> {
        match self {
            Self::Copy => None,
            Self::Dup0 => Some(0),
            Self::Dup30 => Some(30),
            Self::Dup90 => Some(90),
        }
    }
}

/// What will be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often everything is measured.
    pub rounds: usize,
    /// Events that a block receives.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
    /// What is measured, in this order.
    pub blocks: Vec<Block>,
}

impl From<Cli> for Plan {
    fn from(cli: Cli) -> Self {
        let (rounds, events) = if cli.quick { (4, 300_000) } else { (12, 600_000) };
        Self {
            rounds: cli.rounds.unwrap_or(rounds) as usize,
            events: cli.events.unwrap_or(events) as usize,
            connections: cli.connections.into(),
            blocks: Block::value_variants()
                .iter()
                .copied()
                .filter(|block| cli.only.is_empty() || cli.only.contains(block))
                .collect(),
        }
    }
}
