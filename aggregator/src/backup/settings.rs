//! The settings of `backup`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use sluice_service::units::{bytes_within, duration_within};

use crate::postgres_args::PostgresArgs;

/// The subcommands of `backup`.
#[derive(Debug, Clone, Subcommand)]
pub enum BackupCommand {
    /// Store a dump that pg_dump makes in its custom format, once it has ended well
    Store(StoreSettings),
    /// List the backups, the newest first
    List(ListSettings),
    /// Write the dump of a backup into a file or pipe, and compare it with its checksum
    Fetch(FetchSettings),
    /// Remove all backups but the newest ones
    Prune(PruneSettings),
}

/// Where the backups are.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Where the backups are: file:///FOLDER or s3://BUCKET/PREFIX. For S3 the variables AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_VIRTUAL_HOSTED_STYLE_REQUEST and
    /// AWS_CA_BUNDLE are read. Each system needs a folder or a prefix of its own
    #[arg(long, env = "SLUICE_BACKUP_URL", value_name = "URL")]
    pub url: String,
}

/// How the program works together with the one that makes or reads the dump.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// File into which `ready` is written as soon as the dump can begin to flow, and `failed` if it cannot
    #[arg(long, env = "SLUICE_BACKUP_READY", value_name = "FILE")]
    pub ready: Option<PathBuf>,
    /// File into which the backup's manifest is written as JSON at the end
    #[arg(long, env = "SLUICE_BACKUP_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// How long to wait for the other program whenever it does nothing
    #[arg(long, env = "SLUICE_BACKUP_IDLE_TIMEOUT", default_value = "10m", value_parser = duration_within("1s", "24h"),
        value_name = "TIME")]
    pub idle_timeout: Duration,
}

/// Settings of `backup store`.
#[derive(Debug, Clone, Args)]
pub struct StoreSettings {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub place: PlaceArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub postgres: PostgresArgs,
    /// File or pipe with the dump; - is the standard input
    #[arg(long, env = "SLUICE_BACKUP_FROM", default_value = "-", value_name = "FILE")]
    pub from: PathBuf,
    /// File with the exit status of pg_dump, which appears when it has ended: only with 0 the backup is stored. Needed
    /// if the dump comes from a pipe, whose end alone does not say whether the dump is whole
    #[arg(long, env = "SLUICE_BACKUP_EXIT_STATUS", value_name = "FILE")]
    pub exit_status: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub peer: PeerArgs,
    /// Size of the parts that are uploaded. Three of them are in memory, and a dump can have 10,000
    #[arg(long, env = "SLUICE_BACKUP_PART_SIZE", default_value = "16MiB", value_parser = bytes_within("8MiB", "1GiB"),
        value_name = "SIZE")]
    pub part_size: u64,
    /// Number of backups to keep: the older ones are removed when this one is stored. Without it all are kept
    #[arg(long, env = "SLUICE_BACKUP_KEEP", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub keep: Option<u32>,
}

/// Settings of `backup list`.
#[derive(Debug, Clone, Args)]
pub struct ListSettings {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub place: PlaceArgs,
    /// Form of the list
    #[arg(long, env = "SLUICE_BACKUP_FORMAT", default_value = "table", value_name = "table|json")]
    pub format: Format,
}

/// Settings of `backup fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchSettings {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub place: PlaceArgs,
    /// Name of the backup; without it the newest one
    #[arg(long, env = "SLUICE_BACKUP_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// File or pipe into which the dump is written; - is the standard output
    #[arg(long, env = "SLUICE_BACKUP_TO", default_value = "-", value_name = "FILE")]
    pub to: PathBuf,
    /// File that is written at the end: 0 if all of the dump was written and matches its checksum, and otherwise 1
    #[arg(long, env = "SLUICE_BACKUP_EXIT_STATUS", value_name = "FILE")]
    pub exit_status: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub peer: PeerArgs,
}

/// Settings of `backup prune`.
#[derive(Debug, Clone, Args)]
pub struct PruneSettings {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub place: PlaceArgs,
    /// Number of backups to keep
    #[arg(long, env = "SLUICE_BACKUP_KEEP", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub keep: u32,
}

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl StoreSettings {
    /// Checks how the database is reached.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        self.postgres.check()
    }
}
