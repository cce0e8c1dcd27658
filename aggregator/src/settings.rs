//! The settings of every subcommand. Each has an option, an environment variable and, where it is not
//! required, a default. The doc comments are the help texts of `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use sluice_auth::{AuthArgs, ClientTokenArgs};
use sluice_event::Keyer;
use sluice_publisher::https_args::HttpsArgs;
use sluice_publisher::listen_args::ListenArgs;
use sluice_publisher::redis_args::RedisTlsArgs;
use sluice_service::units::{bytes, bytes_within, duration, duration_within};
use sluice_store::conflicts::ConflictLimits;
use sluice_store::postgres;
use sluice_trace::TraceArgs;

use crate::audit::AuditSettings;
use crate::backup::BackupCommand;
use crate::meters_file::MetersFile;
pub use crate::postgres_args::{PartitionArgs, PostgresArgs};
use crate::schemas_file::SchemasFile;

/// Stores events exactly once, and answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "sluice-aggregator", version)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read events from Redis as one replica of the aggregator, store them in PostgreSQL, and answer queries
    Run(Box<RunSettings>),
    /// Create or upgrade the tables in PostgreSQL, and exit
    Migrate(PostgresArgs),
    /// Run publisher and aggregator in one process, on SQLite in one folder
    Standalone(Box<StandaloneSettings>),
    /// Compare the counters of the log, the counters of the store and its rows; exit 0 if they agree, 1 if they
    /// differ, 2 if a counter was lost
    Audit(Box<AuditSettings>),
    /// Store backups of PostgreSQL in a folder or an S3 bucket, list them, and write them out again
    #[command(subcommand)]
    Backup(Box<BackupCommand>),
    /// Ask a running server whether it is ready; exit 0 if so
    Healthcheck(HealthcheckSettings),
}

/// How events are deduplicated, batched and removed, in the cluster and in `standalone`.
#[derive(Debug, Clone, Args)]
pub struct RuleArgs {
    /// Fields that identify an event: two events that are equal in all of them are duplicates. Choose from
    /// topic, event_id and source. Cannot be changed once events are stored
    #[arg(long, env = "SLUICE_DEDUP_FIELDS", default_value = "topic,event_id", value_name = "FIELDS")]
    pub dedup_fields: Keyer,
    /// Number of bits that keys are cut to, so that a test can force collisions
    #[arg(long, env = "SLUICE_TEST_KEY_BITS", hide = true, value_name = "BITS")]
    pub test_key_bits: Option<u32>,
    /// Whether to store a row for each dropped duplicate
    #[arg(long, env = "SLUICE_AUDIT", default_value = "false", num_args = 0..=1, default_missing_value = "true",
        action = clap::ArgAction::Set, value_name = "true|false")]
    pub audit: bool,
    /// How long an Idempotency-Key is remembered: within this time a repeated request is not stored again. At
    /// least 10s, and not less than the append timeout of the publishers
    #[arg(long, env = "SLUICE_IDEMPOTENCY_TTL", default_value = "24h", value_parser = duration_within("10s", "99999d"),
        value_name = "TIME")]
    pub idempotency_ttl: Duration,
    /// Age at which events are removed, counted from when they were stored: at least 1m. Without this option events
    /// are never removed
    #[arg(long, env = "SLUICE_RETENTION", value_parser = duration_within("1m", "99999d"), value_name = "TIME")]
    pub retention: Option<Duration>,
    /// How long the counts of each minute and topic are kept, from which /stats/series is made: at least 1h
    #[arg(long, env = "SLUICE_SERIES_RETENTION", default_value = "90d", value_parser = duration_within("1h", "99999d"),
        value_name = "TIME")]
    pub series_retention: Duration,
    /// How long events are kept that were dropped although their payload differs from the stored one, for /conflicts: at least 1m
    #[arg(long, env = "SLUICE_CONFLICT_RETENTION", default_value = "7d", value_parser = duration_within("1m", "99999d"),
        value_name = "TIME")]
    pub conflict_retention: Duration,
    /// Bytes that these may have together, about. The oldest are removed first
    #[arg(long, env = "SLUICE_CONFLICT_BYTES", default_value = "64MiB", value_parser = bytes_within("0B", "1024GiB"),
        value_name = "SIZE")]
    pub conflict_bytes: u64,
    /// File with meters, in YAML or JSON: they are put into the store at the start and when the file changes
    #[arg(long, env = "SLUICE_METERS", value_name = "FILE")]
    pub meters: Option<PathBuf>,
    /// File with the JSON Schemas of topics, in YAML or JSON: they are put into the store at the start and when the file changes
    #[arg(long, env = "SLUICE_SCHEMAS", value_name = "FILE")]
    pub schemas: Option<PathBuf>,
    /// Whether to serve the page for browsers at /
    #[arg(long, env = "SLUICE_UI", default_value = "true", num_args = 0..=1, default_missing_value = "true",
        action = clap::ArgAction::Set, value_name = "true|false")]
    pub ui: bool,
    /// Largest number of new events in one transaction. With duplicates among them, which need no row, a
    /// transaction holds up to four times as many events, but not more than the larger of this number and
    /// 10000 [default: 2400, standalone 10000]
    #[arg(long, env = "SLUICE_BATCH_EVENTS", value_name = "EVENTS",
        value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub batch_events: Option<u64>,
    /// Size of the dedup cache: the number of keys of stored events held in memory, 36 bytes each.
    /// Duplicates of these events are dropped without a query to the database
    #[arg(long, env = "SLUICE_DEDUP_CACHE_KEYS", default_value_t = 1_000_000, value_name = "KEYS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub dedup_cache_keys: u32,
    /// How long to wait for more events when a batch is less than 40% full: at most 10s; 0s does not wait
    #[arg(long, env = "SLUICE_BATCH_LINGER", default_value = "0ms", value_parser = duration_within("0ms", "10s"),
        value_name = "TIME")]
    pub batch_linger: Duration,
    /// How long requests and entries in flight may take to finish after a signal to stop
    #[arg(long, env = "SLUICE_SHUTDOWN_TIMEOUT", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub shutdown_timeout: Duration,
}

/// Parses a prefix of keys. Braces in it would be taken for the hash tag that Redis Cluster finds a slot by.
fn stream_prefix(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".into()),
        _ if text.contains(['{', '}']) => Err("must not contain { or }".into()),
        _ => Ok(text.to_owned()),
    }
}

impl RuleArgs {
    /// Reads the file of meters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn meters_file(&self) -> Result<Option<MetersFile>, String> {
        self.meters.as_deref().map(MetersFile::read).transpose()
    }

    /// Returns how many conflicts are kept.
    pub fn conflict_limits(&self) -> ConflictLimits {
        ConflictLimits { retention: self.conflict_retention, bytes: self.conflict_bytes }
    }

    /// Reads the file of schemas.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn schemas_file(&self) -> Result<Option<SchemasFile>, String> {
        self.schemas.as_deref().map(SchemasFile::read).transpose()
    }

    /// Returns the function that computes the key of an event.
    pub fn keyer(&self) -> Keyer {
        match self.test_key_bits {
            Some(bits) => self.dedup_fields.clone().truncated_for_tests(bits),
            None => self.dedup_fields.clone(),
        }
    }
}

/// Settings of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunSettings {
    /// Address and port of the HTTP server
    #[arg(long, env = "SLUICE_LISTEN", default_value = "[::]:8081", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub listener: ListenArgs,
    /// URL of the Redis server that holds the streams; rediss:// for TLS
    #[arg(long, env = "SLUICE_REDIS_URL", hide_env_values = true, value_name = "redis://HOST")]
    pub redis_url: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub redis_tls: RedisTlsArgs,
    /// Prefix of all keys in Redis; several systems can share a server by using different prefixes
    #[arg(long, env = "SLUICE_STREAM_PREFIX", default_value = "sluice", value_name = "PREFIX",
        value_parser = stream_prefix)]
    pub stream_prefix: String,
    /// Number of streams that publishers write to. Streams beyond it that still exist are read too
    #[arg(long, env = "SLUICE_STREAMS", default_value_t = 1, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub streams: u16,
    /// Name of this replica in the consumer group: unique, and the same after a restart. Without it the
    /// host's name is used
    #[arg(long, env = "SLUICE_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Number of workers, which is the number of transactions at the same time
    #[arg(long, env = "SLUICE_WORKERS", default_value_t = 2, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// How long an entry may be pending at a replica before another one claims it. A statement may take a third
    /// of this time, so it is at least 1s
    #[arg(long, env = "SLUICE_CLAIM_AFTER", default_value = "30s", value_parser = duration_within("1s", "1000h"),
        value_name = "TIME")]
    pub claim_after: Duration,
    /// How long a replica may be idle, with nothing pending, before it is removed from the consumer group;
    /// at least twice claim-after
    #[arg(long, env = "SLUICE_CONSUMER_TTL", default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub consumer_ttl: Duration,
    /// How long entries stay in the streams after they were acknowledged, so that they can be stored again if
    /// PostgreSQL loses commits in a failover; not longer than idempotency-ttl [default: 10m, or idempotency-ttl if
    /// that is less]
    #[arg(long, env = "SLUICE_REPLAY_WINDOW", value_parser = duration, value_name = "TIME")]
    pub replay_window: Option<Duration>,
    /// Memory, in bytes, that acknowledged entries may take in each stream in Redis; above it the oldest are removed.
    /// All streams together take at most a quarter of Redis' memory
    #[arg(long, env = "SLUICE_REPLAY_WINDOW_BYTES", default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub replay_window_bytes: u64,
    /// Whether the server is ready only while Redis and PostgreSQL are set as durability needs
    #[arg(long, env = "SLUICE_REQUIRE_DURABLE", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub require_durable: bool,
    /// Settings of Redis and PostgreSQL that may be unknown although durability is required, because the server does
    /// not tell them
    #[arg(long, env = "SLUICE_ACCEPT_UNKNOWN_DURABILITY", value_name = "SETTINGS", value_delimiter = ',',
        value_parser = durability_settings())]
    pub accept_unknown_durability: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub partitions: PartitionArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub auth: AuthArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub traces: TraceArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub rules: RuleArgs,
}

impl Cli {
    /// Checks the options that must agree with each other, which no parser of a single option can.
    ///
    /// # Errors
    /// An error that clap reports, with the names of the options.
    pub fn check(&self) -> Result<(), clap::Error> {
        match &self.command {
            Command::Run(settings) => {
                checked(settings.check_replay_window())?;
                checked(settings.redis_tls.check(&settings.redis_url, settings.postgres.require_tls))?;
                checked(settings.postgres.check())?;
                checked(settings.traces.check(settings.postgres.require_tls))?;
                checked(settings.auth.check())?;
                checked(settings.listener.check())
            }
            Command::Migrate(settings) => checked(settings.check()),
            Command::Standalone(settings) => {
                checked(settings.traces.check(false))?;
                checked(settings.auth.check())?;
                checked(settings.listener.check())?;
                settings.ingest.check_idempotency_ttl(settings.rules.idempotency_ttl)
            }
            Command::Audit(settings) => checked(settings.check()),
            Command::Backup(command) => match &**command {
                BackupCommand::Store(settings) => checked(settings.check()),
                _ => Ok(()),
            },
            Command::Healthcheck(settings) => checked(settings.https.check(&settings.url)),
        }
    }
}

fn checked(checked: Result<(), String>) -> Result<(), clap::Error> {
    checked.map_err(|reason| Cli::command().error(ErrorKind::ValueValidation, reason))
}

/// The names that `--accept-unknown-durability` takes.
fn durability_settings() -> PossibleValuesParser {
    let settings = sluice_log::redis::DURABILITY_SETTINGS.into_iter();
    PossibleValuesParser::new(settings.chain(postgres::DURABILITY_SETTINGS))
}

/// The default of `--replay-window`.
const REPLAY_WINDOW: Duration = Duration::from_secs(600);

impl RunSettings {
    /// Returns how long acknowledged entries stay in the streams.
    pub fn replay_window(&self) -> Duration {
        self.replay_window.unwrap_or(REPLAY_WINDOW.min(self.rules.idempotency_ttl))
    }

    /// An entry that is stored again must find the receipts of those that were not lost.
    fn check_replay_window(&self) -> Result<(), String> {
        if self.replay_window() <= self.rules.idempotency_ttl {
            return Ok(());
        }
        Err("--replay-window must not be longer than --idempotency-ttl, for which receipts are kept".into())
    }

    /// Returns the consumer's name: the one that is set, else the host's, which in a StatefulSet is the pod's.
    pub fn consumer_name(&self) -> String {
        let given = self.consumer.clone().or_else(|| std::env::var("HOSTNAME").ok());
        let host = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
        given.or_else(host).filter(|name| !name.is_empty()).unwrap_or_else(|| "aggregator".to_owned())
    }
}

/// Settings of `standalone`.
#[derive(Debug, Clone, Args)]
pub struct StandaloneSettings {
    /// Address and port of the HTTP server
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub listener: ListenArgs,
    /// Whether to publish events of an invented shop, so that there is something to see. Their topics begin with demo.
    #[arg(long, env = "SLUICE_DEMO", default_value = "false", num_args = 0..=1, default_missing_value = "true",
        action = clap::ArgAction::Set, value_name = "true|false")]
    pub demo: bool,
    /// Folder of the log and the store; it is created if it is missing
    #[arg(long, env = "SLUICE_DATA", default_value = "data", value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub auth: AuthArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub traces: TraceArgs,
    /// Number of events with which a partition of their keys is closed. With --retention it is closed after an eighth of
    /// that time too
    #[arg(long, env = "SLUICE_PARTITION_ROWS", default_value_t = 500_000, value_name = "EVENTS",
        value_parser = clap::value_parser!(u64).range(10..=1_000_000_000))]
    pub partition_rows: u64,
    /// Memory that the filters of closed partitions may take: 2.3 bytes for each event, or half of that where all of them
    /// would not fit. In partitions whose filter does not fit either, every key is looked up
    #[arg(long, env = "SLUICE_FILTER_MEMORY", default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub filter_memory: u64,
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
    /// URL of the server
    #[arg(long, env = "SLUICE_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub url: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub token: ClientTokenArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub https: HttpsArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error with which the program refuses these arguments.
    fn refused(args: &[&str]) -> String {
        let parsed = Cli::try_parse_from([&["sluice-aggregator"][..], args].concat());
        parsed.and_then(|cli| cli.check()).expect_err(&format!("{args:?} is accepted")).to_string()
    }

    fn accepted(args: &[&str]) {
        let parsed = Cli::try_parse_from([&["sluice-aggregator"][..], args].concat());
        assert!(parsed.and_then(|cli| cli.check()).is_ok(), "{args:?} is refused");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_the_name_of_the_option() {
        let servers = ["--redis-url", "redis://r", "--database-url", "postgres://p"];
        for (option, value) in [
            ("--retention", "0"),
            ("--retention", "59s"),
            ("--retention", "999999d"),
            ("--claim-after", "0"),
            ("--claim-after", "999ms"),
            ("--claim-after", "1001h"),
            ("--idempotency-ttl", "9s"),
            ("--batch-linger", "11s"),
            ("--database-schema", ""),
            ("--database-schema", "pg_events"),
            ("--database-schema", &"s".repeat(64)),
            ("--stream-prefix", ""),
            ("--stream-prefix", "{a}"),
        ] {
            let error = refused(&[&["run"][..], &servers, &[option, value]].concat());
            assert!(error.contains(option), "{option} {value}: {error}");
        }
        for (option, value) in [("--retention", "1m"), ("--claim-after", "1s"), ("--idempotency-ttl", "10s")] {
            accepted(&[&["run"][..], &servers, &[option, value]].concat());
        }
    }

    #[test]
    fn tls_that_cannot_work_is_refused_by_the_name_of_the_option() {
        let redis = ["--redis-url", "redis://redis.example"];
        let postgres = ["--database-url", "postgres://db.example/x?sslmode=disable"];
        let both = [redis, postgres].concat();
        for command in ["run", "audit"] {
            let error = refused(&[&[command][..], &both, &["--redis-ca", "/no/such/file"]].concat());
            assert!(error.contains("--redis-ca") && error.contains("rediss://"), "{error}");
            let error = refused(&[&[command][..], &both, &["--require-tls"]].concat());
            assert!(error.contains("--require-tls") && error.contains("--redis-url"), "{error}");
            accepted(&[&[command][..], &both].concat());
        }
        let error = refused(&[&["migrate"][..], &postgres, &["--require-tls"]].concat());
        assert!(error.contains("--require-tls") && error.contains("--database-url"), "{error}");
        let error = refused(&["migrate", "--database-url", "postgres://db.example/x?sslmode=never"]);
        assert!(error.contains("--database-url"), "{error}");
    }

    #[test]
    fn a_window_longer_than_receipts_are_kept_is_refused_and_the_default_never_is() {
        let run = ["run", "--redis-url", "redis://r", "--database-url", "postgres://p", "--idempotency-ttl", "20s"];
        let error = refused(&[&run[..], &["--replay-window", "21s"]].concat());
        assert!(error.contains("--replay-window") && error.contains("--idempotency-ttl"), "{error}");
        accepted(&[&run[..], &["--replay-window", "20s"]].concat());
        accepted(&run);
    }

    #[test]
    fn a_key_must_be_remembered_for_as_long_as_an_append_is_repeated() {
        let error = refused(&["standalone", "--idempotency-ttl", "20s", "--append-timeout", "21s"]);
        assert!(error.contains("--idempotency-ttl") && error.contains("--append-timeout"), "{error}");
        accepted(&["standalone", "--idempotency-ttl", "20s", "--append-timeout", "20s"]);
    }
}
