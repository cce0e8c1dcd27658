//! Reads the database directly, without the system's API.

use std::path::PathBuf;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};

/// The location of the rows.
#[derive(Debug, Clone)]
pub enum StoreAddress {
    /// A schema of a Postgres database.
    Postgres {
        /// Its URL.
        url: String,
        /// The schema with our tables.
        schema: String,
    },
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// All counts at one moment, read in one snapshot of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Events that arrived.
    pub received: i64,
    /// Events that were stored.
    pub unique: i64,
    /// Events that were dropped as duplicates.
    pub duplicates: i64,
    /// Duplicates whose payload differed.
    pub conflicts: i64,
    /// Rows of the events table, counted.
    pub rows: i64,
    /// Events in the table of dead letters.
    pub dead_lettered: i64,
}

impl Snapshot {
    /// Returns the number of events that arrived: stored, dropped or in the dead letters.
    pub fn arrived(&self) -> u64 {
        (self.received + self.dead_lettered).cast_unsigned()
    }

    /// Returns why a system that counts exactly cannot be in this state; `None` when it can.
    pub fn fault(&self) -> Option<String> {
        if self.received != self.unique + self.duplicates {
            return Some(format!("received ≠ unique + duplicates: {self:?}"));
        }
        (self.unique != self.rows).then(|| format!("unique ≠ rows: {self:?}"))
    }
}

/// A stored event: topic, id, payload text.
pub type StoredRow = (String, String, String);

/// Connects to the primary among the hosts of a URL: `postgres://user@host:port,host:port/database`.
async fn primary(url: &str) -> sqlx::Result<PgConnection> {
    let (before, rest) = url.split_at(url.find('@').map_or(0, |at| at + 1));
    let (hosts, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !hosts.contains(',') {
        return PgConnection::connect(url).await;
    }
    // The settings after the database are for the programs.
    let database = after.split('?').next().unwrap_or_default();
    let mut failure = sqlx::Error::PoolClosed;
    for host in hosts.split(',') {
        let connected = async {
            let mut connection = PgConnection::connect(&format!("{before}{host}{database}")).await?;
            let is_standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
            if is_standby { Err(sqlx::Error::RowNotFound) } else { Ok(connection) }
        };
        match connected.await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A read-only connection.
#[derive(Debug)]
pub enum StoreReader {
    /// To Postgres, with the prefix of its tables.
    Postgres(Box<PgConnection>, String),
    /// To a SQLite file.
    Sqlite(Box<SqliteConnection>),
}

impl StoreReader {
    /// Connects. The tables must already exist.
    pub async fn connect(address: &StoreAddress) -> sqlx::Result<Self> {
        match address {
            StoreAddress::Postgres { url, schema } => {
                Ok(Self::Postgres(Box::new(primary(url).await?), format!("\"{schema}\".")))
            }
            StoreAddress::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true);
                Ok(Self::Sqlite(Box::new(options.connect().await?)))
            }
        }
    }

    /// Reads all counts in one statement, which uses one snapshot.
    pub async fn snapshot(&mut self) -> sqlx::Result<Snapshot> {
        let sum = |column| format!("CAST(coalesce(sum({column}), 0) AS bigint)");
        let sql = format!(
            "SELECT {}, {}, {}, {}, (SELECT count(*) FROM %events), {} FROM %counters",
            sum("received"),
            sum("unique_processed"),
            sum("duplicate_dropped"),
            sum("conflicts"),
            "(SELECT CAST(coalesce(sum(events), 0) AS bigint) FROM %dead_letters)",
        );
        let read = |get: &dyn Fn(usize) -> sqlx::Result<i64>| {
            Ok(Snapshot {
                received: get(0)?,
                unique: get(1)?,
                duplicates: get(2)?,
                conflicts: get(3)?,
                rows: get(4)?,
                dead_lettered: get(5)?,
            })
        };
        match self {
            Self::Postgres(connection, prefix) => {
                let row = connection.fetch_one(AssertSqlSafe(sql.replace('%', prefix))).await?;
                read(&|i| row.try_get(i))
            }
            Self::Sqlite(connection) => {
                let row = connection.fetch_one(AssertSqlSafe(sql.replace('%', ""))).await?;
                read(&|i| row.try_get(i))
            }
        }
    }

    /// Returns whether the programs write series. Older ones do not.
    pub async fn has_series(&mut self) -> sqlx::Result<bool> {
        match self {
            Self::Postgres(connection, prefix) => {
                let table = format!("{prefix}series");
                let found = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table);
                found.fetch_one(&mut **connection).await
            }
            Self::Sqlite(connection) => {
                let found = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'series'";
                sqlx::query_scalar(found).fetch_one(&mut **connection).await
            }
        }
    }

    /// Returns how the series differ from the counters, in one snapshot; `None` if they add up to them.
    pub async fn series_fault(&mut self) -> sqlx::Result<Option<String>> {
        let columns = ["received", "unique_processed", "duplicate_dropped", "conflicts"];
        let sum = |table: &str, column: &str| format!("(SELECT coalesce(sum({column}), 0) FROM %{table})");
        let not_added =
            |column: &str| format!("(SELECT coalesce(sum(n), 0) FROM %series_batches, unnest({column}) AS n)");
        let is_postgres = matches!(self, Self::Postgres(..));
        let select = columns.iter().flat_map(|column| {
            let later = if is_postgres { not_added(column) } else { "0".to_owned() };
            [sum("counters", column), format!("{} + {later}", sum("series", column))]
        });
        let select: Vec<_> = select.map(|sum| format!("CAST({sum} AS text)")).collect();
        let sql = format!("SELECT {}", select.join(" || ' ' || "));
        let text: String = match self {
            Self::Postgres(connection, prefix) => {
                sqlx::query_scalar(AssertSqlSafe(sql.replace('%', prefix))).fetch_one(&mut **connection).await?
            }
            Self::Sqlite(connection) => {
                sqlx::query_scalar(AssertSqlSafe(sql.replace('%', ""))).fetch_one(&mut **connection).await?
            }
        };
        let sums: Vec<_> = text.split(' ').collect();
        let is_equal = sums.len() == 8 && sums.chunks(2).all(|pair| pair[0] == pair[1]);
        Ok((!is_equal).then(|| format!("series ≠ counters, each pair of {columns:?}: {text}")))
    }

    /// Returns the number of events that this replica has committed.
    pub async fn received_by(&mut self, replica: &str) -> sqlx::Result<i64> {
        let sql = "SELECT CAST(coalesce(sum(received), 0) AS bigint) FROM %counters WHERE shard LIKE $1";
        let shards = format!("{replica}/%");
        match self {
            Self::Postgres(connection, prefix) => {
                let sql = AssertSqlSafe(sql.replace('%', prefix));
                sqlx::query_scalar(sql).bind(shards).fetch_one(&mut **connection).await
            }
            Self::Sqlite(connection) => {
                sqlx::query_scalar(AssertSqlSafe(sql.replace('%', ""))).bind(shards).fetch_one(&mut **connection).await
            }
        }
    }

    /// Returns the audit trail: dropped duplicates, and how many of them were conflicts.
    pub async fn audit(&mut self) -> sqlx::Result<(i64, i64)> {
        let sql = "SELECT count(*), count(CASE WHEN conflict THEN 1 END) FROM %audit";
        match self {
            Self::Postgres(connection, prefix) => {
                sqlx::query_as(AssertSqlSafe(sql.replace('%', prefix))).fetch_one(&mut **connection).await
            }
            Self::Sqlite(connection) => {
                sqlx::query_as(AssertSqlSafe(sql.replace('%', ""))).fetch_one(&mut **connection).await
            }
        }
    }

    /// Returns the topic, the payload and the timestamp in µs of all stored events.
    pub async fn times(&mut self) -> sqlx::Result<Vec<(String, String, i64)>> {
        match self {
            Self::Postgres(connection, prefix) => {
                let micros = "(extract(epoch FROM ts) * 1000000)::int8";
                let sql = format!("SELECT topic, payload::text, {micros} FROM {prefix}events");
                sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut **connection).await
            }
            Self::Sqlite(connection) => {
                sqlx::query_as("SELECT topic, payload, ts FROM events").fetch_all(&mut **connection).await
            }
        }
    }

    /// Returns all stored events.
    pub async fn rows(&mut self) -> sqlx::Result<Vec<StoredRow>> {
        self.rows_from("").await
    }

    /// Returns the stored events whose id is this one or follows it in the order of bytes.
    pub async fn rows_from(&mut self, id: &str) -> sqlx::Result<Vec<StoredRow>> {
        match self {
            Self::Postgres(connection, prefix) => {
                let sql = format!(
                    "SELECT topic, event_id, payload::text FROM {prefix}events WHERE event_id COLLATE \"C\" >= $1"
                );
                sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_all(&mut **connection).await
            }
            Self::Sqlite(connection) => {
                let sql = "SELECT topic, event_id, payload FROM events WHERE event_id >= $1";
                sqlx::query_as(sql).bind(id).fetch_all(&mut **connection).await
            }
        }
    }
}
