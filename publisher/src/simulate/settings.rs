//! The options of `simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sluice_auth::ClientTokenArgs;
use sluice_service::units::duration;

use crate::https_args::HttpsArgs;

/// Settings of `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateSettings {
    /// The URL of the server to publish to and to query
    #[arg(long, env = "SLUICE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub token: ClientTokenArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub https: HttpsArgs,
    /// The number of events to send, duplicates included
    #[arg(long, env = "SLUICE_EVENTS", default_value_t = 20_000, value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub events: u32,
    /// The share of duplicates among them, from 0 to below 1; their number is exact, rounded
    #[arg(long, env = "SLUICE_DUPLICATE", default_value_t = 0.3, value_name = "SHARE", value_parser = duplicate)]
    pub duplicate: f64,
    /// The number of topics over which the events are distributed
    #[arg(long, env = "SLUICE_TOPICS", default_value_t = 5, value_name = "TOPICS",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub topics: u32,
    /// The number of events in a request
    #[arg(long, env = "SLUICE_BATCH", default_value_t = 100, value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// The number of concurrent requests
    #[arg(long, env = "SLUICE_CONCURRENCY", default_value_t = 4, value_name = "REQUESTS",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// The average number of events per second; 0 means as fast as requests are answered
    #[arg(long, env = "SLUICE_RATE", default_value_t = 0, value_name = "EVENTS")]
    pub rate: u32,
    /// Send this number of events at once, then pause until the average is --rate again
    #[arg(long, env = "SLUICE_BURST", value_name = "EVENTS", requires = "rate",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub burst: Option<u32>,
    /// The seed of the generator: the same seed gives the same events in the same order; random without it
    #[arg(long, env = "SLUICE_SEED", value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Part of every topic's name, which distinguishes a run from all others; random without it
    #[arg(long, env = "SLUICE_RUN_ID", value_name = "NAME", value_parser = run_id)]
    pub run_id: Option<String>,
    /// The time limit for sending, repetitions of unanswered requests included; after it the run fails
    #[arg(long, env = "SLUICE_SEND_TIMEOUT", default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub send_timeout: Duration,
    /// Wait until all events are stored, then compare statistics and stored events with the sent events;
    /// exit with code 1 on any difference
    #[arg(long, env = "SLUICE_VERIFY")]
    pub verify: bool,
    /// How long to wait until all events are stored
    #[arg(long, env = "SLUICE_VERIFY_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub verify_timeout: Duration,
    /// Publish the events of a file instead, one JSON object a line; `-` is standard input. The
    /// first line that is not a valid event ends the run with exit code 1: its request is not sent,
    /// the requests before it are
    #[arg(long, env = "SLUICE_FILE", value_name = "PATH",
        conflicts_with_all = ["events", "duplicate", "topics", "seed", "run_id", "verify"])]
    pub file: Option<PathBuf>,
}

fn duplicate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("use a number from 0 to below 1".into()),
    }
}

/// Accepts characters that need no escaping in a URL or in a log.
fn run_id(text: &str) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(harmless) {
        Ok(text.to_owned())
    } else {
        Err("use 1 to 64 letters, digits, '-', '_' or '.'".into())
    }
}
