//! A store under test, and the database behind it seen directly.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sluice_event::Keyer;
use sluice_store::commit::{Batch, Outcome, commit};
use sluice_store::inspect::Inspect;
use sluice_store::postgres::{PostgresSettings, PostgresStore};
use sluice_store::sqlite::SqliteStore;
use sluice_store::{CommitOptions, Counts, Statistics, StoreError};
use sluice_tests::dirs;
use sluice_tests::postgres::PostgresServer;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

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
        Self { store, options: options(settings.keyer.clone()), place: Place::Postgres(settings) }
    }

    pub async fn sqlite() -> Self {
        let path = dirs::fresh("sqlite").join("store.db");
        let store = SqliteStore::open(&path, &Keyer::default(), 1000).await.expect("a new file");
        Self { store: Arc::new(store), place: Place::Sqlite(path), options: options(Keyer::default()) }
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
        Self { store, place, options: options(keyer) }
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

    /// The counters of all topics.
    pub async fn counts(&self) -> Counts {
        self.statistics().await.total
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
        self.run(match &self.place {
            Place::Postgres(_) => {
                "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (payload::text NOT LIKE '%poison%')"
            }
            Place::Sqlite(_) => {
                "CREATE TRIGGER no_poison BEFORE INSERT ON events WHEN NEW.payload LIKE '%poison%' \
                 BEGIN SELECT RAISE(ABORT, 'no_poison'); END"
            }
        })
        .await;
    }

    /// From now on it takes them again.
    pub async fn accept_poison(&self) {
        self.run(match &self.place {
            Place::Postgres(_) => "ALTER TABLE events DROP CONSTRAINT no_poison",
            Place::Sqlite(_) => "DROP TRIGGER no_poison",
        })
        .await;
    }

    /// Lets so much time pass for the events that are stored.
    pub async fn make_stored_events_older(&self, by: Duration) {
        self.age_marks(by).await;
        let micros = by.as_micros();
        // The marks that maintenance would have added: then, and a moment ago.
        self.run(&match &self.place {
            Place::Postgres(_) => format!(
                "INSERT INTO arrival_marks (batch, noted_at, counts_from) \
                 SELECT last_value, at, at FROM event_batches, \
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

/// A connection beside the store's, in its schema.
pub async fn direct(settings: &PostgresSettings) -> PgConnection {
    let mut connection = PgConnection::connect(&settings.url).await.expect("the server");
    let path = format!("SET search_path = \"{}\"", settings.schema.replace('"', "\"\""));
    sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut connection).await.expect("the schema");
    connection
}
