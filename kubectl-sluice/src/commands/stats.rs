//! `stats`: exact counts, in total and by topic.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Out, write, write_json};
use crate::context::Context;
use crate::global::{Form, Output};
use crate::outcome::Outcome;
use crate::programs::{Programs, path};
use crate::table::{row, table};

/// Shows the exact counts, in total and by topic
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The resource
    pub name: String,
    /// Most topics to show: those with the most arrivals. The totals are those of all
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000), value_name = "N")]
    pub topics: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub output: Output,
}

/// The counts of all events, or of those of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events that arrived.
    pub received: u64,
    /// Events stored.
    pub unique_processed: u64,
    /// Events dropped, because they were stored already.
    pub duplicate_dropped: u64,
    /// Of the duplicates, those with another payload.
    pub conflicts: u64,
}

/// What `GET /stats` answers, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The totals.
    #[serde(flatten)]
    pub total: Counts,
    /// Events in dead letters.
    pub dead_lettered: u64,
    /// Events accepted and not stored yet, if known.
    pub backlog: Option<u64>,
    /// The replicas that read the log.
    pub consumers: Vec<Consumer>,
    /// Since when all events are there.
    pub dedup_horizon: Option<String>,
    /// Number of topics.
    pub topic_count: u64,
    /// Some topics.
    pub topics: BTreeMap<String, Counts>,
}

/// A replica that reads the log.
#[derive(Debug, Clone, Deserialize)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Entries that it has read and not acknowledged.
    pub pending: u64,
    /// Seconds since it last asked for entries.
    pub idle_seconds: f64,
}

/// Reads the statistics, with so many topics.
pub(super) async fn read<T: serde::de::DeserializeOwned>(programs: &mut Programs, topics: u32) -> anyhow::Result<T> {
    programs.get(&path("/stats", &[("topics", Some(topics.to_string()))])).await
}

/// Runs the command.
///
/// # Errors
/// If the statistics cannot be read.
pub async fn run(context: &Context, args: &Args, out: Out<'_>) -> anyhow::Result<Outcome> {
    let mut programs = Programs::of(context, &args.name).await?;
    match args.output.form {
        Form::Json => write_json(out, &read::<Value>(&mut programs, args.topics).await?)?,
        Form::Text => write(out, &text(&read(&mut programs, args.topics).await?))?,
    }
    Ok(Outcome::Done)
}

/// Returns the totals in a line.
pub(super) fn totals(stats: &Stats) -> String {
    let Counts { received, unique_processed, duplicate_dropped, conflicts } = stats.total;
    let dead = stats.dead_lettered;
    let backlog = stats.backlog.map_or_else(|| "unknown".to_owned(), |backlog| backlog.to_string());
    format!(
        "received {received} = stored {unique_processed} + duplicates {duplicate_dropped} (conflicts {conflicts}); \
         dead letters {dead}; backlog {backlog}"
    )
}

fn text(stats: &Stats) -> String {
    let mut text = totals(stats) + "\n";
    if let Some(horizon) = &stats.dedup_horizon {
        let _ = writeln!(text, "duplicates are recognised back to {horizon}");
    }
    if !stats.consumers.is_empty() {
        let mut rows = vec![row(["REPLICA", "PENDING ENTRIES", "IDLE"])];
        for Consumer { name, pending, idle_seconds } in &stats.consumers {
            rows.push(row([name, &pending.to_string(), &format!("{idle_seconds:.1}s")]));
        }
        let _ = write!(text, "\n{}", table(&rows));
    }
    if !stats.topics.is_empty() {
        let mut rows = vec![row(["TOPIC", "RECEIVED", "STORED", "DUPLICATES", "CONFLICTS"])];
        let mut topics: Vec<_> = stats.topics.iter().collect();
        topics.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.received), (*name).clone()));
        for (name, counts) in topics {
            let Counts { received, unique_processed, duplicate_dropped, conflicts } = counts;
            let numbers = [received, unique_processed, duplicate_dropped, conflicts].map(ToString::to_string);
            rows.push(row([name, &numbers[0], &numbers[1], &numbers[2], &numbers[3]]));
        }
        let _ = write!(text, "\n{}", table(&rows));
        let others = stats.topic_count.saturating_sub(stats.topics.len() as u64);
        if others > 0 {
            let _ = writeln!(text, "and {others} more topics (--topics)");
        }
    }
    text
}
