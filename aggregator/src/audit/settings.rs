//! The settings of `audit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sluice_publisher::redis_args::RedisTlsArgs;
use sluice_service::units::duration_within;
use sluice_store::postgres;

/// Settings of `audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditSettings {
    /// Folder of `standalone` to audit; without it Redis and PostgreSQL are audited
    #[arg(long, env = "SLUICE_DATA", value_name = "DIR", conflicts_with_all = ["redis_url", "database_url"])]
    pub data: Option<PathBuf>,
    /// URL of the Redis server that holds the streams
    #[arg(
        long,
        env = "SLUICE_REDIS_URL",
        hide_env_values = true,
        value_name = "redis://HOST",
        required_unless_present = "data"
    )]
    pub redis_url: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub redis_tls: RedisTlsArgs,
    /// Whether servers on another host are connected to with TLS only
    #[arg(long, env = "SLUICE_REQUIRE_TLS", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub require_tls: bool,
    /// Prefix of all keys in Redis
    #[arg(long, env = "SLUICE_STREAM_PREFIX", default_value = "sluice", value_name = "PREFIX")]
    pub stream_prefix: String,
    /// URL of the PostgreSQL database
    #[arg(
        long,
        env = "SLUICE_DATABASE_URL",
        hide_env_values = true,
        value_name = "postgres://USER:PASSWORD@HOST/DB",
        required_unless_present = "data"
    )]
    pub database_url: Option<String>,
    /// File with the password of the URL's user, or with two, of which the second is tried when the first is refused
    #[arg(long, env = "SLUICE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Schema of the tables
    #[arg(long, env = "SLUICE_DATABASE_SCHEMA", default_value = "sluice", value_name = "NAME")]
    pub database_schema: String,
    /// Compare all stored events with the hashes in their rows. Reads the whole table of events
    #[arg(long, env = "SLUICE_AUDIT_CHECK_ROWS", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", value_name = "true|false")]
    pub check_rows: bool,
    /// Whether to note the result in the store, from which the servers show it: in GET /overview and in the page. Otherwise the
    /// audit only reads
    #[arg(long, env = "SLUICE_AUDIT_RECORD", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub record: bool,
    /// The longest that the audit may take
    #[arg(long, env = "SLUICE_AUDIT_TIMEOUT", default_value = "10m", value_parser = duration_within("1s", "24h"),
        value_name = "TIME")]
    pub timeout: Duration,
    /// Form of the report
    #[arg(long, env = "SLUICE_AUDIT_FORMAT", default_value = "table", value_name = "table|json")]
    pub format: Format,
}

impl AuditSettings {
    /// Checks how the servers are reached, and reads the files of TLS.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        match (&self.redis_url, &self.database_url) {
            (Some(redis), Some(database)) => {
                self.redis_tls.check(redis, self.require_tls)?;
                postgres::check_password_file(database, self.database_password_file.as_deref())?;
                postgres::check_connection(database, self.require_tls)
            }
            _ => Ok(()),
        }
    }
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}
