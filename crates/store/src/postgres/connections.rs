//! A bounded set of connections, each with the settings of its session.
//!
//! It is stricter than a general pool, because exactly-once storing depends on it: every wait has a
//! deadline; the reason why no connection can be had is reported, not hidden in a time-out; and only a
//! connection that was given back explicitly is used again. One that is dropped, in the middle of a
//! transaction or of a statement, is closed, and the server rolls its transaction back.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_service::durability::Durability;
use sluice_service::no_delay;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, Connection, FromRow, SqlSafeStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Address;
use super::durability;
use super::errors::{of_insert, of_statement, within};
use super::session::{QUERY_TIMEOUT, Session};
use super::sqlstate::{Meaning, SqlState};
use crate::StoreError;

/// A connection that was idle for longer is pinged before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);

struct Idle {
    connection: PgConnection,
    since: Instant,
    generation: u64,
    is_compared: bool,
}

/// A bounded set of connections.
pub(super) struct Connections {
    address: Address,
    session: String,
    durability: Durability,
    deadline: Duration,
    lease_timeout: Duration,
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// State that the leases of a set share.
#[derive(Default)]
struct Shared {
    idle: Mutex<Vec<Idle>>,
    /// Number of connections that were lost. A connection that was opened before another was lost is not
    /// used again: the loss may have been the server's, and a standby may have been promoted since.
    generation: AtomicU64,
    /// Whether a statement reported that the store's tables are missing, until somebody asked.
    tables_missing: AtomicBool,
    /// Whether a statement waited for a lock in vain, until somebody asked.
    lock_timed_out: AtomicBool,
}

impl Shared {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn count_loss(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes if an error says that the tables are missing, or that a lock was not available.
    fn note(&self, error: &sqlx::Error) {
        match SqlState::of(error) {
            Some(SqlState::LockNotAvailable) => self.lock_timed_out.store(true, Ordering::Release),
            Some(state) if state.meaning() == Meaning::MissingTables => {
                self.tables_missing.store(true, Ordering::Release);
            }
            _ => {}
        }
    }

    /// Notes an error and converts it.
    fn convert(&self, error: sqlx::Error) -> StoreError {
        self.note(&error);
        of_statement(error)
    }
}

/// Counts a lost connection when it is dropped, unless it was disarmed before.
struct LossGuard {
    shared: Arc<Shared>,
    armed: bool,
}

impl Drop for LossGuard {
    fn drop(&mut self) {
        if self.armed {
            self.shared.count_loss();
        }
    }
}

impl Connections {
    /// Creates a set of at most `max_connections`; opens none yet.
    pub fn new(address: Address, max_connections: u32, session: Session, durability: Durability) -> Self {
        Self {
            address,
            session: session.sql,
            durability,
            deadline: session.deadline,
            lease_timeout: session.lease_timeout,
            permits: Arc::new(Semaphore::new(max_connections.max(1) as usize)),
            shared: Arc::default(),
        }
    }

    /// Returns a working connection: an idle one, or a new one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is none within the session's time limit; else the error with
    /// which the server refused the connection or the session's first statements.
    pub async fn lease(&self) -> Result<Lease, StoreError> {
        let leasing = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.map_err(|_| StoreError::Unavailable("the connections are closed".into()))?;
            let Idle { connection, generation, is_compared, .. } = match self.idle().await {
                Some(idle) => idle,
                None => self.open().await.map_err(|error| self.shared.convert(error))?,
            };
            let loss = LossGuard { shared: Arc::clone(&self.shared), armed: true };
            Ok(Lease { connection, generation, is_compared, loss, deadline: self.deadline, _permit: permit })
        };
        match tokio::time::timeout(self.lease_timeout, leasing).await {
            Ok(lease) => lease,
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {:?}", self.lease_timeout))),
        }
    }

    /// Returns whether a statement has reported missing tables since this was last called.
    pub fn take_tables_missing(&self) -> bool {
        self.shared.tables_missing.swap(false, Ordering::AcqRel)
    }

    /// Returns whether a statement has waited for a lock in vain since this was last called.
    pub fn take_lock_timed_out(&self) -> bool {
        // Called before every batch: only a load in the normal case.
        self.shared.lock_timed_out.load(Ordering::Acquire) && self.shared.lock_timed_out.swap(false, Ordering::AcqRel)
    }

    /// Treats all connections as lost: they are not used again, and count as lost.
    pub fn distrust(&self) {
        self.shared.count_loss();
    }

    /// Returns an idle connection.
    async fn idle(&self) -> Option<Idle> {
        loop {
            let mut idle = self.shared.idle.lock().ok()?.pop()?;
            if idle.generation != self.shared.generation() {
                continue;
            }
            if idle.since.elapsed() < PING_AFTER || within(self.lease_timeout / 2, idle.connection.ping()).await.is_ok()
            {
                return Some(idle);
            }
            self.shared.count_loss();
        }
    }

    /// Opens a connection; the generation is the one in which it was opened.
    async fn open(&self) -> Result<Idle, sqlx::Error> {
        // Read first: this connection may reach the server as it was before a loss in the meantime.
        let generation = self.shared.generation();
        let (mut connection, mode) = self.address.connect().await?;
        no_delay::on_all_sockets();
        sqlx::raw_sql(AssertSqlSafe(self.session.clone())).execute(&mut connection).await?;
        let settings = sqlx::query(durability::SELECT).persistent(false).fetch_one(&mut connection).await?;
        self.durability.record(durability::checks(&settings));
        self.address.record(mode, durability::is_encrypted(&settings));
        Ok(Idle { connection, since: Instant::now(), generation, is_compared: false })
    }
}

/// A connection in use. [`Lease::give_back`] makes it available to others; if dropped, it is closed.
///
/// Each call below is bounded by the session's deadline and fails with what [`of_statement`] makes of the
/// error. Calls that need another deadline or conversion use the connection itself, by [`DerefMut`].
pub(super) struct Lease {
    connection: PgConnection,
    generation: u64,
    is_compared: bool,
    deadline: Duration,
    loss: LossGuard,
    // The last field: the permit is released only after the connection is closed or given back.
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Returns the longest that the client waits for a statement.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Lets statements take this long, on the client's side and on the server's, until the connection is given back or
    /// [`Lease::end_long`] is called. For work of maintenance that reads a whole table.
    pub async fn begin_long(&mut self, deadline: Duration) -> Result<(), StoreError> {
        self.deadline = deadline;
        self.run(AssertSqlSafe(format!("SET statement_timeout = {}", deadline.as_millis()))).await
    }

    /// Ends what [`Lease::begin_long`] began, and returns to the limits of a query.
    pub async fn end_long(&mut self) -> Result<(), StoreError> {
        self.run(AssertSqlSafe(format!("SET statement_timeout = {}", QUERY_TIMEOUT.as_millis()))).await
    }

    /// Returns how many connections of the set had been lost when this one was opened.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the connection available to others. It must not be in a transaction, nor have failed.
    pub fn give_back(self) {
        let Self { connection, generation, is_compared, mut loss, _permit, .. } = self;
        loss.armed = false;
        if let Ok(mut idle) = loss.shared.idle.lock() {
            idle.push(Idle { connection, since: Instant::now(), generation, is_compared });
        }
    }

    /// Returns whether the store behind this connection was compared with the log.
    pub fn is_compared(&self) -> bool {
        self.is_compared
    }

    /// Notes that it was.
    pub fn set_compared(&mut self) {
        self.is_compared = true;
    }

    /// Returns whether no connection of the set was lost since it was opened.
    pub fn is_current(&self) -> bool {
        self.generation == self.loss.shared.generation()
    }

    /// Treats all connections of the set as lost.
    pub fn distrust(&self) {
        self.loss.shared.count_loss();
    }

    /// Rolls its transaction back and makes the connection available to others. It is closed if that fails.
    pub async fn roll_back(mut self) {
        if self.run("ROLLBACK").await.is_ok() {
            self.give_back();
        }
    }

    /// Removes the connection from the set.
    pub fn into_connection(self) -> PgConnection {
        self.connection
    }

    /// Converts an error of the statement that inserts events, whose data may be refused.
    pub fn of_insert(&self, error: sqlx::Error) -> StoreError {
        self.loss.shared.note(&error);
        of_insert(error)
    }

    /// Converts the result of a call on the connection itself.
    pub fn converted<T>(&self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        result.map_err(|error| self.loss.shared.convert(error))
    }

    /// Asks the server for a sign of life, and for what it promises: its settings can be changed while it runs.
    pub async fn check_durability(&mut self, durability: &Durability) -> Result<(), StoreError> {
        let settings = within(self.deadline, sqlx::query(durability::SELECT).fetch_one(&mut self.connection)).await;
        durability.record(durability::checks(&self.converted(settings)?));
        Ok(())
    }

    /// Runs statements without parameters in one round trip.
    pub async fn run(&mut self, sql: impl SqlSafeStr) -> Result<(), StoreError> {
        let ran = within(self.deadline, sqlx::raw_sql(sql).execute(&mut self.connection)).await;
        self.converted(ran.map(|_| ()))
    }

    /// Runs statements without parameters in one round trip, and returns the rows of all of them. Values
    /// are in text format.
    pub async fn run_for_rows(&mut self, sql: impl SqlSafeStr) -> Result<Vec<PgRow>, StoreError> {
        let rows = within(self.deadline, sqlx::raw_sql(sql).fetch_all(&mut self.connection)).await;
        self.converted(rows)
    }

    /// Executes a statement whose rows, if any, are not needed.
    pub async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<(), StoreError> {
        let executed = within(self.deadline, query.execute(&mut self.connection)).await;
        self.converted(executed.map(|_| ()))
    }

    /// Returns the one row of a query.
    pub async fn fetch_one<O: FromPgRow>(
        &mut self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<O, StoreError> {
        let row = within(self.deadline, query.fetch_one(&mut self.connection)).await;
        self.converted(row)
    }

    /// Returns the row of a query, if there is one.
    pub async fn fetch_optional<O: FromPgRow>(
        &mut self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Option<O>, StoreError> {
        let row = within(self.deadline, query.fetch_optional(&mut self.connection)).await;
        self.converted(row)
    }

    /// Returns all rows of a query.
    pub async fn fetch_all<O: FromPgRow>(
        &mut self,
        query: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Vec<O>, StoreError> {
        let rows = within(self.deadline, query.fetch_all(&mut self.connection)).await;
        self.converted(rows)
    }
}

/// A type that a row is read into.
pub(super) trait FromPgRow: Send + Unpin + for<'r> FromRow<'r, PgRow> {}

impl<T: Send + Unpin + for<'r> FromRow<'r, PgRow>> FromPgRow for T {}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
