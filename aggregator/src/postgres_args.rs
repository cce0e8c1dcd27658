//! The options with which PostgreSQL is reached.

use std::path::PathBuf;

use clap::Args;
use sluice_service::units::bytes;
use sluice_store::postgres::{self, PayloadType};

/// Parses the name of a schema. PostgreSQL would cut a longer name off, and reserves the prefix `pg_`.
fn schema(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".into()),
        _ if text.len() > 63 => Err("must have at most 63 bytes".into()),
        _ if text.starts_with("pg_") => Err("must not start with pg_, which PostgreSQL reserves".into()),
        _ => Ok(text.to_owned()),
    }
}

/// The PostgreSQL database.
#[derive(Debug, Clone, Args)]
pub struct PostgresArgs {
    /// URL of the PostgreSQL database; its parameters sslmode, sslrootcert, sslcert and sslkey are for TLS
    #[arg(long, env = "SLUICE_DATABASE_URL", hide_env_values = true, value_name = "postgres://USER:PASSWORD@HOST/DB")]
    pub database_url: String,
    /// File with the password of the URL's user, or with two, of which the second is tried when the first is refused.
    /// It is read at each new connection
    #[arg(long, env = "SLUICE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Schema of the tables; several aggregators can share a database by using different schemas
    #[arg(long, env = "SLUICE_DATABASE_SCHEMA", default_value = "sluice", value_name = "NAME",
        value_parser = schema)]
    pub database_schema: String,
    /// Column type of payloads: json stores the exact text; jsonb is faster to query by its fields and
    /// slower to store. Applies when the tables are created, and not later
    #[arg(long, env = "SLUICE_PAYLOAD_TYPE", default_value = "json", value_name = "json|jsonb")]
    pub payload_type: PayloadType,
    /// Whether servers on another host are connected to with TLS only
    #[arg(long, env = "SLUICE_REQUIRE_TLS", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub require_tls: bool,
}

/// The partitions in which events lie.
#[derive(Debug, Clone, Args)]
pub struct PartitionArgs {
    /// Number of events with which a partition of events is closed. With --retention it is closed after an eighth of that
    /// time too
    #[arg(long, env = "SLUICE_PARTITION_ROWS", default_value_t = 2_000_000, value_name = "EVENTS",
        value_parser = clap::value_parser!(u64).range(10..=1_000_000_000))]
    pub partition_rows: u64,
    /// Memory that the filters of closed partitions may take: 2.3 bytes for each event, or half of that where all of them
    /// would not fit. In partitions whose filter does not fit either, every key is looked up
    #[arg(long, env = "SLUICE_FILTER_MEMORY", default_value = "64MiB", value_parser = bytes, value_name = "SIZE")]
    pub filter_memory: u64,
}

impl PostgresArgs {
    /// Checks how the database is reached, and reads the files that are named.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self) -> Result<(), String> {
        postgres::check_password_file(&self.database_url, self.database_password_file.as_deref())?;
        postgres::check_connection(&self.database_url, self.require_tls)
    }
}
