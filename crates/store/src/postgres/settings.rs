//! Settings of the PostgreSQL store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sluice_event::Keyer;

use super::locks::lock_id;

/// The longest schema name that is written out in the name of a session: it leaves room for the replica's name.
const MAX_SCHEMA_BYTES: usize = 32;

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

/// The type of the column of a table that takes payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadColumn {
    /// Of the one table of all events: PostgreSQL parses what was parsed already.
    Json,
    /// Of partitions. Users see it as `json`.
    Text,
    Jsonb,
}

impl fmt::Display for PayloadColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Jsonb => "jsonb",
        })
    }
}

impl PayloadType {
    /// Returns the type of the column, in partitions or in the one table of all events.
    pub(super) fn column(self, is_partitioned: bool) -> PayloadColumn {
        match (self, is_partitioned) {
            (Self::Json, false) => PayloadColumn::Json,
            (Self::Json, true) => PayloadColumn::Text,
            (Self::Jsonb, _) => PayloadColumn::Jsonb,
        }
    }
}

/// How to reach the database and how to store events in it.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`, with the parameters of TLS
    pub url: String,
    /// A file with the password of the URL's user, or with two of them, which is read at each connection.
    pub password_file: Option<PathBuf>,
    /// Whether no connection without TLS may be opened to another host.
    pub require_tls: bool,
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
    /// The number of events with which a partition is closed.
    pub partition_rows: u64,
    /// The bytes that the filters of closed partitions may take.
    pub filter_memory: u64,
    /// Computes the dedup keys. A schema records the dedup fields that it was created with.
    pub keyer: Keyer,
    /// The name of this replica, shown in `pg_stat_activity`.
    pub replica: String,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            require_tls: false,
            schema: "sluice".to_owned(),
            workers: 2,
            api_connections: 4,
            claim_after: Duration::from_secs(30),
            payload_type: PayloadType::default(),
            dedup_cache_keys: 1_000_000,
            partition_rows: 2_000_000,
            filter_memory: 64 << 20,
            keyer: Keyer::default(),
            replica: String::new(),
        }
    }
}

impl PostgresSettings {
    /// Returns the name of this replica's sessions in `pg_stat_activity`: the schema and the replica. The server cuts
    /// it to 63 bytes.
    pub fn application_name(&self) -> String {
        format!("{}{}", self.application_prefix(), self.replica)
    }

    /// Returns how the names of all sessions begin that use this schema. A schema whose name is long, or is not plain
    /// text, is represented by a hash: the server would cut it, or replace characters of it.
    pub(super) fn application_prefix(&self) -> String {
        let is_plain = self.schema.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if is_plain && self.schema.len() <= MAX_SCHEMA_BYTES {
            return format!("sluice {}/", self.schema);
        }
        format!("sluice {:016x}/", lock_id(&self.schema, "session"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(schema: &str) -> String {
        PostgresSettings { schema: schema.to_owned(), ..PostgresSettings::default() }.application_prefix()
    }

    #[test]
    fn the_name_of_a_session_tells_its_schema_within_what_the_server_keeps_of_it() {
        assert_eq!(prefix("sluice_shop"), "sluice sluice_shop/");
        let long = "a".repeat(63);
        for schema in [&*long, "ereignisse_für_müller"] {
            let prefix = prefix(schema);
            assert!(prefix.len() <= 40 && prefix.is_ascii(), "{prefix}");
        }
        assert_ne!(prefix(&long), prefix(&"b".repeat(63)));
    }
}
