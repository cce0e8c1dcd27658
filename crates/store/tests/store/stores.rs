//! A store under test, and the database behind it seen directly.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sluice_event::Keyer;
use sluice_store::commit::{Batch, Outcome, commit};
use sluice_store::inspect::Inspect;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::series::{Minute, SeriesQuery};
use sluice_store::sqlite::SqliteStore;
use sluice_store::{CommitOptions, Counts, Statistics, StoreError};
use sluice_tests::dirs;
use sluice_tests::postgres::PostgresServer;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqlSafeStr};

/// One server for all tests of this program; each has a schema of its own in it.
static SERVER: LazyLock<PostgresServer> = LazyLock::new(|| PostgresServer::start(false));
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Where a store keeps its data.
pub enum Place {
    Postgres(PostgresSettings),
    Sqlite(PathBuf),
}

/// A store of its own.
pub struct TestStore {
    pub store: Arc<dyn Inspect>,
    pub place: Place,
    pub options: CommitOptions,
    /// Whether a schema of PostgreSQL has all events in one table, or a file of SQLite all keys in one index, as older
    /// versions made them.
    pub in_one_table: bool,
}

/// Settings of a fresh schema on the shared server.
pub fn fresh_schema() -> PostgresSettings {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PostgresSettings { schema: format!("schema \"{number}\""), ..on_server(&SERVER) }
}

/// Settings of the default schema on a server.
pub fn on_server(server: &PostgresServer) -> PostgresSettings {
    PostgresSettings { url: server.url(), workers: 8, api_connections: 8, ..PostgresSettings::default() }
}

pub async fn opened(settings: &PostgresSettings) -> Arc<dyn Inspect> {
    let store = PostgresStore::connect(settings).expect("settings");
    store.migrate().await.expect("migrations");
    Arc::new(store)
}

pub fn options(keyer: Keyer) -> CommitOptions {
    CommitOptions { keyer, shard: "replica/0".into(), audit: false, numbering: None }
}

impl TestStore {
    pub async fn postgres() -> Self {
        Self::on_postgres(fresh_schema()).await
    }

    pub async fn on_postgres(settings: PostgresSettings) -> Self {
        let store = opened(&settings).await;
        let options = options(settings.keyer.clone());
        Self { store, options, place: Place::Postgres(settings), in_one_table: false }
    }

    /// A schema that the last version without partitions made.
    pub async fn in_one_table() -> Self {
        let settings = fresh_schema();
        make_old_schema(&settings).await;
        Self { in_one_table: true, ..Self::on_postgres(settings).await }
    }

    pub async fn sqlite() -> Self {
        let path = dirs::fresh("sqlite").join("store.db");
        let store = SqliteStore::open(&path, &Keyer::default(), 1000).await.expect("a new file");
        Self::on_sqlite(path, Arc::new(store))
    }

    pub fn on_sqlite(path: PathBuf, store: Arc<dyn Inspect>) -> Self {
        Self { store, place: Place::Sqlite(path), options: options(Keyer::default()), in_one_table: false }
    }

    /// A file whose keys are not in partitions yet, as if an older version had made it.
    pub async fn sqlite_by_index() -> Self {
        let test = Self { in_one_table: true, ..Self::sqlite().await };
        test.run(
            "CREATE UNIQUE INDEX events_key ON events (key); \
             UPDATE key_layout SET copied_seq = 0, version = 'by index'; \
             UPDATE settings SET value = 'topic,event_id' WHERE name = 'dedup_fields'",
        )
        .await;
        test
    }

    /// The same place opened once more, as after a restart.
    pub async fn open_again(&self, keyer: &Keyer) -> Result<Arc<dyn Inspect>, StoreError> {
        match &self.place {
            Place::Postgres(settings) => {
                let store = PostgresStore::connect(&PostgresSettings { keyer: keyer.clone(), ..settings.clone() })?;
                store.migrate().await?;
                Ok(Arc::new(store))
            }
            Place::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, keyer, 1000).await?)),
        }
    }

    /// A new place of the same kind with another keyer.
    pub async fn another(&self, keyer: Keyer) -> Self {
        let (store, place): (Arc<dyn Inspect>, _) = match &self.place {
            Place::Postgres(_) => {
                let settings = PostgresSettings { keyer: keyer.clone(), ..fresh_schema() };
                (opened(&settings).await, Place::Postgres(settings))
            }
            Place::Sqlite(_) => {
                let path = dirs::fresh("sqlite").join("store.db");
                (Arc::new(SqliteStore::open(&path, &keyer, 1000).await.expect("a new file")), Place::Sqlite(path))
            }
        };
        Self { store, place, options: options(keyer), in_one_table: false }
    }

    pub async fn commit(&self, batch: &Batch<'_>) -> Outcome {
        commit(&*self.store, &self.options, batch).await.expect("a commit")
    }

    /// Repeats while another transaction is in the way or the connection was lost.
    pub async fn commit_until_done(&self, options: &CommitOptions, batch: &Batch<'_>) -> Outcome {
        loop {
            match commit(&*self.store, options, batch).await {
                Ok(outcome) => return outcome,
                Err(StoreError::Conflict(_) | StoreError::TooSlow(_) | StoreError::Unavailable(_)) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn statistics(&self) -> Statistics {
        self.store.statistics(1_000).await.expect("statistics")
    }

    /// The counters of all topics. While nothing is committed, the series add up to them.
    pub async fn counts(&self) -> Counts {
        let counts = self.statistics().await.total;
        let query = SeriesQuery { topics: None, from: Minute(-1_000_000_000), to: Minute(1_000_000_000), step: 1 };
        let series = self.store.series(&query).await.expect("series");
        let of_series = series.into_iter().fold(Counts::default(), |sum, (_, row)| sum + row.counts);
        assert_eq!(of_series, counts, "the series do not add up to the counters");
        counts
    }

    /// Runs statements on the database itself.
    pub async fn run(&self, sql: &str) {
        match &self.place {
            Place::Postgres(settings) => {
                let mut connection = direct(settings).await;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
                connection.close().await.expect("closing");
            }
            Place::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
                let mut connection = options.connect().await.expect("the file");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
                connection.close().await.expect("closing");
            }
        }
    }

    /// Returns the table that holds the rows of the events, where they are changed behind the store's back.
    pub fn event_table(&self) -> &'static str {
        match self.place {
            Place::Postgres(_) if !self.in_one_table => "event_rows",
            _ => "events",
        }
    }

    /// Returns the table that holds the rows of the audit trail, where they are changed behind the store's back.
    pub fn audit_table(&self) -> &'static str {
        match self.place {
            Place::Postgres(_) if !self.in_one_table => "audit_rows",
            _ => "audit",
        }
    }

    /// A number read from the database itself.
    pub async fn number(&self, sql: &str) -> i64 {
        match &self.place {
            Place::Postgres(settings) => {
                let mut connection = direct(settings).await;
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect(sql)
            }
            Place::Sqlite(path) => {
                let mut connection = SqliteConnectOptions::new().filename(path).connect().await.expect("the file");
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect(sql)
            }
        }
    }

    pub async fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM events").await
    }

    /// From now on the database refuses payloads that hold `poison`.
    pub async fn refuse_poison(&self) {
        self.run(&match &self.place {
            Place::Postgres(_) => format!(
                "ALTER TABLE {} ADD CONSTRAINT no_poison CHECK (payload::text NOT LIKE '%poison%')",
                self.event_table()
            ),
            Place::Sqlite(_) => "CREATE TRIGGER no_poison BEFORE INSERT ON events WHEN NEW.payload LIKE '%poison%' \
                 BEGIN SELECT RAISE(ABORT, 'no_poison'); END"
                .to_owned(),
        })
        .await;
    }

    /// From now on it takes them again.
    pub async fn accept_poison(&self) {
        self.run(&match &self.place {
            Place::Postgres(_) => format!("ALTER TABLE {} DROP CONSTRAINT no_poison", self.event_table()),
            Place::Sqlite(_) => "DROP TRIGGER no_poison".to_owned(),
        })
        .await;
    }

    /// Lets so much time pass for the events that are stored.
    pub async fn make_stored_events_older(&self, by: Duration) {
        self.age_marks(by).await;
        let micros = by.as_micros();
        if let Place::Postgres(_) = &self.place {
            // They would be in a partition that was closed then.
            self.close_partition().await;
            let shift = format!("- {micros} * interval '1 microsecond'");
            self.run(&format!(
                "UPDATE event_partitions SET opened_at = opened_at {shift}, closed_at = closed_at {shift}"
            ))
            .await;
        }
        // The marks that maintenance would have added: then, and a moment ago.
        self.run(&match &self.place {
            Place::Postgres(_) => format!(
                "INSERT INTO arrival_marks (batch, noted_at, counts_from) \
                 SELECT last_batch(), at, at FROM \
                     (VALUES (now() - {micros} * interval '1 microsecond'), (now())) AS v (at)"
            ),
            Place::Sqlite(_) => format!(
                "INSERT INTO arrival_marks (seq, noted_at, counts_from) \
                 SELECT seq, at, at FROM sqlite_sequence, \
                     (SELECT unixepoch() * 1000000 - {micros} AS at UNION ALL SELECT unixepoch() * 1000000) \
                 WHERE name = 'events' ORDER BY at"
            ),
        })
        .await;
    }

    /// Closes the open partition of events, if the store has partitions. With the default limits maintenance would not.
    pub async fn close_partition(&self) {
        if self.in_one_table {
            return;
        }
        self.run(match self.place {
            Place::Postgres(_) => "UPDATE event_partitions SET opened_at = '2000-01-01' WHERE closed_at IS NULL",
            Place::Sqlite(_) => "UPDATE key_partitions SET opened_at = 0 WHERE last_seq IS NULL",
        })
        .await;
        self.store.maintain_partitions(Some(Duration::from_secs(3_600))).await.expect("maintenance");
    }

    /// Lets so much time pass for the marks of arrival, and nothing else: as if the clock had been set forward.
    pub async fn age_marks(&self, by: Duration) {
        self.age("arrival_marks", "noted_at", by).await;
        self.age("arrival_marks", "counts_from", by).await;
    }

    /// Makes what is stored so much older.
    pub async fn age(&self, table: &str, column: &str, by: Duration) {
        let micros = by.as_micros();
        self.run(&match &self.place {
            Place::Postgres(_) => {
                format!("UPDATE {table} SET {column} = {column} - {micros} * interval '1 microsecond'")
            }
            Place::Sqlite(_) => format!("UPDATE {table} SET {column} = {column} - {micros}"),
        })
        .await;
    }
}

/// Makes a schema as the last version without partitions did.
async fn make_old_schema(settings: &PostgresSettings) {
    let mut connection = PgConnection::connect(&settings.url).await.expect("the server");
    let schema = settings.schema.replace('"', "\"\"");
    let begin = format!("CREATE SCHEMA \"{schema}\"; SET search_path = \"{schema}\"");
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.expect("the schema");
    let mut migrator = Migrator::with_migrations(migrations(&[
        ("initial", include_str!("../../migrations/postgres/0001_initial.sql")),
        ("arrival marks", include_str!("../../migrations/postgres/0002_arrival_marks.sql")),
        ("ledger", include_str!("../../migrations/postgres/0003_ledger.sql")),
        ("dead letter receipts", include_str!("../../migrations/postgres/0004_dead_letter_receipts.sql")),
        ("commit marks", include_str!("../../migrations/postgres/0005_commit_marks.sql")),
    ]));
    migrator.set_locking(false);
    migrator.run_direct(None, &mut connection, false).await.expect("the migrations");
    let record = "INSERT INTO settings (name, value) VALUES ('payload_type', 'json')";
    sqlx::raw_sql(record).execute(&mut connection).await.expect("the setting");
    connection.close().await.expect("closing");
}

/// Makes a file as the last version without partitions of keys did, with what is stored in a new one.
pub async fn make_old_file(source: &Path) -> PathBuf {
    let path = dirs::fresh("sqlite").join("old.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.expect("a new file");
    let mut migrator = Migrator::with_migrations(migrations(&[
        ("initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
        ("arrival marks", include_str!("../../migrations/sqlite/0002_arrival_marks.sql")),
        ("ledger", include_str!("../../migrations/sqlite/0003_ledger.sql")),
        ("dead letter receipts", include_str!("../../migrations/sqlite/0004_dead_letter_receipts.sql")),
    ]));
    migrator.set_locking(false);
    migrator.run_direct(None, &mut connection, false).await.expect("the migrations");
    let copy = ["events", "counters", "receipts"].map(|table| format!("INSERT INTO {table} SELECT * FROM new.{table}"));
    let copy = format!(
        "ATTACH '{}' AS new; {}; INSERT INTO settings (name, value) VALUES ('dedup_fields', 'topic,event_id')",
        source.display(),
        copy.join("; ")
    );
    sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut connection).await.expect("what is stored");
    connection.close().await.expect("closing");
    path
}

fn migrations(files: &[(&'static str, &'static str)]) -> Vec<Migration> {
    let migration = |(at, (name, sql)): (usize, &(&'static str, &'static str))| {
        Migration::new(at as i64 + 1, Cow::Borrowed(*name), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    files.iter().enumerate().map(migration).collect()
}

/// A connection beside the store's, in its schema.
pub async fn direct(settings: &PostgresSettings) -> PgConnection {
    let mut connection = PgConnection::connect(&settings.url).await.expect("the server");
    let path = format!("SET search_path = \"{}\"", settings.schema.replace('"', "\"\""));
    sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut connection).await.expect("the schema");
    connection
}
