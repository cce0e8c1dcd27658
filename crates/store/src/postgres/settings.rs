//! Settings of the PostgreSQL store.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sluice_event::Keyer;
use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// The type of the payload column, chosen when the schema is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PayloadType {
    /// Stored exactly as sent.
    #[default]
    Json,
    /// Parsed once: quick to query, but numbers, white space and the order of members are normalised.
    Jsonb,
}

/// Parses the text used in settings: `json` or `jsonb`.
impl FromStr for PayloadType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "jsonb" => Ok(Self::Jsonb),
            other => Err(format!("unknown payload type `{other}`: use json or jsonb")),
        }
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        })
    }
}

/// How to reach the database and how to store events in it.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`
    pub url: String,
    /// The schema that contains all tables of the store.
    pub schema: String,
    /// Number of connections for commits: one per worker.
    pub workers: u32,
    /// Number of connections for queries of the API: half of them for lists of events, which may take long.
    pub api_connections: u32,
    /// Idle time after which other replicas take over the entries of a stuck replica. No transaction of the
    /// stuck replica may live longer, so every time-out is shorter than this.
    pub claim_after: Duration,
    /// The payload type, used only if the schema is created now.
    pub payload_type: PayloadType,
    /// Number of keys of stored events that are cached in memory.
    pub dedup_cache_keys: usize,
    /// Computes the dedup keys. A schema records the dedup fields that it was created with.
    pub keyer: Keyer,
    /// The name of this replica, shown in `pg_stat_activity`.
    pub replica: String,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            schema: "sluice".to_owned(),
            workers: 2,
            api_connections: 4,
            claim_after: Duration::from_secs(30),
            payload_type: PayloadType::default(),
            dedup_cache_keys: 1_000_000,
            keyer: Keyer::default(),
            replica: String::new(),
        }
    }
}

impl PostgresSettings {
    /// Returns the connection options that the URL describes.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the URL cannot be parsed.
    pub(super) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let options: PgConnectOptions = self
            .url
            .parse()
            .map_err(|error| StoreError::Failed(format!("the database's URL cannot be used: {error}")))?;
        Ok(options.application_name(&format!("sluice {}", self.replica)))
    }
}
