//! Every setting of the programs: an option, an environment variable, a default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sluice_event::Keyer;
use sluice_service::units::{bytes, duration};

use sluice_store::postgres::PayloadType;

/// Stores events exactly once, and answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "sluice-aggregator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a Redis stream as one replica of the aggregator, store in PostgreSQL, answer queries
    Run(Box<RunSettings>),
    /// Create or upgrade the tables in PostgreSQL, and exit
    Migrate(PostgresArgs),
    /// Publisher and aggregator in one process, on SQLite in one folder
    Standalone(Box<StandaloneSettings>),
    /// Ask a running server whether it is ready; exit 0 if so
    Healthcheck(HealthcheckSettings),
}

/// What makes two events the same, and what is remembered for how long.
#[derive(Debug, Clone, Args)]
pub struct RuleArgs {
    /// Fields whose equality makes an event a duplicate: of topic, event_id, source. Cannot be
    /// changed once events are stored
    #[arg(long, env = "SLUICE_DEDUP_FIELDS", default_value = "topic,event_id", value_name = "FIELDS")]
    pub dedup_fields: Keyer,
    /// Cuts keys to so many bits, so that a test can force collisions
    #[arg(long, env = "SLUICE_TEST_KEY_BITS", hide = true, value_name = "BITS")]
    pub test_key_bits: Option<u32>,
    /// Keep a row for each dropped duplicate
    #[arg(long, env = "SLUICE_AUDIT", default_value = "false", num_args = 0..=1, default_missing_value = "true",
        action = clap::ArgAction::Set, value_name = "true|false")]
    pub audit: bool,
    /// For how long an Idempotency-Key is honoured
    #[arg(long, env = "SLUICE_IDEMPOTENCY_TTL", default_value = "24h", value_parser = duration, value_name = "TIME")]
    pub idempotency_ttl: Duration,
    /// Remove events that arrived longer ago than this; without it they are kept for ever
    #[arg(long, env = "SLUICE_RETENTION", value_parser = duration, value_name = "TIME")]
    pub retention: Option<Duration>,
    /// New events stored in one transaction; with duplicates that are dropped it may hold four times as
    /// many, or 10000 [default: 2400, standalone 10000]
    #[arg(long, env = "SLUICE_BATCH_EVENTS", value_name = "EVENTS",
        value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub batch_events: Option<u64>,
    /// Keys of stored events kept in memory, at 36 bytes each: duplicates of these are dropped without
    /// asking the database
    #[arg(long, env = "SLUICE_DEDUP_CACHE_KEYS", default_value_t = 1_000_000, value_name = "KEYS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub dedup_cache_keys: u32,
    /// How long to wait for a fuller batch when few events came
    #[arg(long, env = "SLUICE_BATCH_LINGER", default_value = "3ms", value_parser = duration, value_name = "TIME")]
    pub batch_linger: Duration,
    /// For how long to finish what is in hand when told to stop
    #[arg(long, env = "SLUICE_SHUTDOWN_TIMEOUT", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub shutdown_timeout: Duration,
}

impl RuleArgs {
    /// The key function.
    pub fn keyer(&self) -> Keyer {
        match self.test_key_bits {
            Some(bits) => self.dedup_fields.clone().truncated_for_tests(bits),
            None => self.dedup_fields.clone(),
        }
    }
}

/// Which PostgreSQL.
#[derive(Debug, Clone, Args)]
pub struct PostgresArgs {
    /// The database
    #[arg(long, env = "SLUICE_DATABASE_URL", hide_env_values = true, value_name = "postgres://USER:PASSWORD@HOST/DB")]
    pub database_url: String,
    /// The schema in it, so that several can share a database
    #[arg(long, env = "SLUICE_DATABASE_SCHEMA", default_value = "sluice", value_name = "NAME")]
    pub database_schema: String,
    /// How payloads are stored: json, as given to the byte, or jsonb, faster to query by its fields
    /// and slower to store. Decided when the tables are created
    #[arg(long, env = "SLUICE_PAYLOAD_TYPE", default_value = "json", value_name = "json|jsonb")]
    pub payload_type: PayloadType,
}

/// Settings of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunSettings {
    /// Where to answer HTTP
    #[arg(long, env = "SLUICE_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The Redis that holds the stream
    #[arg(long, env = "SLUICE_REDIS_URL", hide_env_values = true, value_name = "redis://HOST")]
    pub redis_url: String,
    /// Prefix of its keys, so that several can share a server
    #[arg(long, env = "SLUICE_STREAM_PREFIX", default_value = "sluice", value_name = "PREFIX")]
    pub stream_prefix: String,
    /// Streams that publishers write to; more than it that were ever written are read too
    #[arg(long, env = "SLUICE_STREAMS", default_value_t = 1, value_name = "P",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub streams: u16,
    /// This replica's name in the consumer group: the same after a restart, unlike any other's
    #[arg(long, env = "SLUICE_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Transactions at the same time
    #[arg(long, env = "SLUICE_WORKERS", default_value_t = 2, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// For how long a replica may hold an entry before another takes it over
    #[arg(long, env = "SLUICE_CLAIM_AFTER", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub claim_after: Duration,
    /// After which silence a replica with nothing pending is removed from the group
    #[arg(long, env = "SLUICE_CONSUMER_TTL", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub consumer_ttl: Duration,
    /// For how long acknowledged entries stay in the stream
    #[arg(long, env = "SLUICE_REPLAY_WINDOW", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub replay_window: Duration,
    /// How much memory they may take
    #[arg(long, env = "SLUICE_REPLAY_WINDOW_BYTES", default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub replay_window_bytes: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub rules: RuleArgs,
}

impl RunSettings {
    /// The consumer's name: as set, else the host's, which in a StatefulSet is the pod's.
    pub fn consumer_name(&self) -> String {
        let given = self.consumer.clone().or_else(|| std::env::var("HOSTNAME").ok());
        let host = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
        given.or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "aggregator".to_owned())
    }
}

/// Settings of `standalone`.
#[derive(Debug, Clone, Args)]
pub struct StandaloneSettings {
    /// Where to answer HTTP
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The folder that holds everything; created where missing
    #[arg(long, env = "SLUICE_DATA", default_value = "data", value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub ingest: sluice_publisher::settings::IngestArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub rules: RuleArgs,
}

/// Settings of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckSettings {
    /// Which server
    #[arg(long, env = "SLUICE_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub url: String,
}
