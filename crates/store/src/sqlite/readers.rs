//! The connections that read: a bounded set of them, and a deadline for each query.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection, SqlitePool};

use super::errors::of_statement;
use crate::StoreError;

/// The longest wait for a connection, or for another process that has the file locked.
const WAIT: Duration = Duration::from_secs(5);
/// Steps of SQLite's virtual machine between two looks at the deadline: less than a millisecond.
const STEPS: i32 = 10_000;
/// Rows that a connection's thread reads ahead: few, because each may have a large payload.
const ROWS_AHEAD: usize = 4;

/// A bounded set of connections that read.
pub(super) struct Readers {
    pool: SqlitePool,
    query_timeout: Duration,
}

impl Readers {
    /// Creates the set; opens no connection yet.
    pub fn new(path: &Path, max_connections: u32, query_timeout: Duration) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(WAIT)
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(WAIT)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self { pool, query_timeout }
    }

    /// Returns a connection for one query. SQLite interrupts the query after its time, or when the connection is
    /// dropped: a query runs in a thread, which would otherwise go on, whoever waits for it, and keep the
    /// connection from all others.
    pub async fn lease(&self) -> Result<Reader, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(of_statement)?;
        let (deadline, dropped) = (Instant::now() + self.query_timeout, Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&dropped);
        let go_on = move || !stop.load(Ordering::Relaxed) && Instant::now() < deadline;
        connection.lock_handle().await.map_err(of_statement)?.set_progress_handler(STEPS, go_on);
        Ok(Reader { connection, dropped })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection in use.
pub(super) struct Reader {
    connection: PoolConnection<Sqlite>,
    dropped: Arc<AtomicBool>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    async fn one_reader(query_timeout: Duration) -> Readers {
        let path = sluice_tests::dirs::fresh("readers").join("store.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        options.connect().await.unwrap().close().await.unwrap();
        Readers::new(&path, 1, query_timeout)
    }

    async fn answers(readers: &Readers) {
        let mut reader = readers.lease().await.unwrap();
        let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&mut *reader).await.unwrap();
        assert_eq!(one, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_query_that_takes_too_long_is_interrupted_and_its_connection_serves_the_next_one() {
        let readers = one_reader(Duration::from_millis(200)).await;
        let mut reader = readers.lease().await.unwrap();
        let query = sqlx::query(ENDLESS).fetch_one(&mut *reader);
        let ended = tokio::time::timeout(Duration::from_secs(20), query).await.expect("it is interrupted");
        let error = ended.map(|_| ()).map_err(of_statement).unwrap_err();
        assert!(matches!(error, StoreError::TooSlow(_)), "{error}");
        drop(reader);
        answers(&readers).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_query_that_nobody_waits_for_any_more_is_interrupted() {
        let readers = one_reader(Duration::from_secs(3_600)).await;
        let mut reader = readers.lease().await.unwrap();
        let query = sqlx::query(ENDLESS).fetch_one(&mut *reader);
        assert!(tokio::time::timeout(Duration::from_millis(100), query).await.is_err(), "it never ends by itself");
        drop(reader);
        answers(&readers).await;
    }
}
