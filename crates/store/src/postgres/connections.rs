//! A bounded set of connections, each with its session's settings.
//!
//! Stricter than a general pool, because of what hangs on it: every wait has a deadline, the
//! reason why a connection cannot be had is told and not hidden in a time-out, and only a
//! connection that was given back on purpose is used again. One that is dropped, in the middle of
//! a transaction or of a statement, is closed, and the server rolls back what it held.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_service::no_delay;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::{self, within};
use super::{PostgresSettings, QUERY_TIMEOUT, counters, receipts};
use crate::StoreError;

/// The longest wait for a connection, to be made or to be free.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// One that lay idle for longer is asked whether it still works before it is used.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// What is set at the beginning of a session, and the deadline of a statement in it.
pub(super) struct Session {
    sql: String,
    /// For the client's side: longer than the server's, so that the server normally says it first.
    deadline: Duration,
    lease_timeout: Duration,
}

impl Session {
    /// Commits: everything that could hold a batch is bounded below the claim time. The tables must
    /// be there.
    pub fn commits(settings: &PostgresSettings) -> Self {
        let statement = settings.claim_after / 3;
        let mut sql = common(settings, statement, settings.claim_after / 4);
        // The batch's statements are the same for ever and look rows up by key: a plan made once,
        // and never one that reads a table through because it was small when the plan was made.
        sql.push_str("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; ");
        // So that they can be sent together with others, where sqlx would take a round trip for each.
        sql.push_str(&format!("{}; {}", receipts::PREPARE, counters::PREPARE));
        Self { sql, deadline: settings.claim_after / 2, lease_timeout: LEASE_TIMEOUT.min(settings.claim_after / 2) }
    }

    /// Queries of the API, and maintenance.
    pub fn queries(settings: &PostgresSettings) -> Self {
        let sql = common(settings, QUERY_TIMEOUT, settings.claim_after.min(QUERY_TIMEOUT) / 4);
        Self { sql, deadline: QUERY_TIMEOUT + Duration::from_secs(2), lease_timeout: LEASE_TIMEOUT }
    }

    /// Migrations: as long as they take, but not in the way of others for long.
    pub fn migrations(settings: &PostgresSettings, wait: Duration, deadline: Duration) -> Self {
        let sql = format!("{} SET statement_timeout = 0;", common(settings, deadline, wait));
        Self { sql, deadline, lease_timeout: LEASE_TIMEOUT }
    }
}

fn common(settings: &PostgresSettings, statement: Duration, lock: Duration) -> String {
    let third = settings.claim_after / 3;
    let millis = |duration: Duration| duration.as_millis().max(1);
    format!(
        "SET search_path = {schema}; SET timezone = 'UTC'; \
         SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SET tcp_user_timeout = {idle}; SET tcp_keepalives_idle = {keepalive}; \
         SET tcp_keepalives_interval = {keepalive}; SET tcp_keepalives_count = 3; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local'); ",
        schema = quoted(&settings.schema),
        statement = millis(statement),
        lock = millis(lock),
        idle = millis(third),
        keepalive = (third.as_secs() / 4).max(1),
    )
}

/// An identifier as SQL.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

struct Idle {
    connection: PgConnection,
    since: Instant,
    generation: u64,
}

/// A bounded set of connections.
pub(super) struct Connections {
    options: PgConnectOptions,
    session: String,
    deadline: Duration,
    lease_timeout: Duration,
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// What a lease leaves to the next.
#[derive(Default)]
struct Shared {
    idle: Mutex<Vec<Idle>>,
    /// How many connections were lost. One that was opened before another was lost is not used again:
    /// what was lost may have been the server, and the next one may have been promoted in its place.
    generation: AtomicU64,
}

impl Shared {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lost(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// Counts a lost connection when dropped, unless it was given back.
struct Loss {
    shared: Option<Arc<Shared>>,
}

impl Drop for Loss {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lost();
        }
    }
}

impl Connections {
    pub fn new(options: PgConnectOptions, most: u32, session: &Session) -> Self {
        Self {
            options: options.disable_statement_logging(),
            session: session.sql.clone(),
            deadline: session.deadline,
            lease_timeout: session.lease_timeout,
            permits: Arc::new(Semaphore::new(most.max(1) as usize)),
            shared: Arc::default(),
        }
    }

    /// A connection that works: an idle one, or a new one.
    pub async fn lease(&self) -> Result<Lease, StoreError> {
        let leasing = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.map_err(|_| StoreError::Unavailable("the connections are closed".into()))?;
            let (connection, generation) = match self.idle().await {
                Some(idle) => idle,
                None => self.open().await.map_err(errors::of_statement)?,
            };
            let loss = Loss { shared: Some(Arc::clone(&self.shared)) };
            Ok(Lease { connection, generation, loss, deadline: self.deadline, _permit: permit })
        };
        match tokio::time::timeout(self.lease_timeout, leasing).await {
            Ok(lease) => lease,
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {:?}", self.lease_timeout))),
        }
    }

    /// With the generation that it was opened in.
    async fn idle(&self) -> Option<(PgConnection, u64)> {
        loop {
            let Idle { mut connection, since, generation } = self.shared.idle.lock().ok()?.pop()?;
            if generation != self.shared.generation() {
                continue;
            }
            if since.elapsed() < ASK_AFTER || within(self.lease_timeout / 2, connection.ping()).await.is_ok() {
                return Some((connection, generation));
            }
            self.shared.lost();
        }
    }

    async fn open(&self) -> Result<(PgConnection, u64), sqlx::Error> {
        // Read before: a loss meanwhile is one that this connection may not have seen.
        let generation = self.shared.generation();
        let mut connection = self.options.connect().await?;
        no_delay::on_all_sockets();
        sqlx::raw_sql(AssertSqlSafe(self.session.clone())).execute(&mut connection).await?;
        Ok((connection, generation))
    }
}

/// A connection in use. Dropped it is closed; [`Lease::give_back`] keeps it for the next.
pub(super) struct Lease {
    connection: PgConnection,
    generation: u64,
    deadline: Duration,
    loss: Loss,
    // Last: the place becomes free only after the connection is closed or given back.
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The longest that a statement may take, seen from here.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How many connections of the set had been lost when this one was opened.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps the connection. It must not be in a transaction, nor have failed.
    pub fn give_back(self) {
        let Self { connection, generation, mut loss, _permit, .. } = self;
        if let Some(shared) = loss.shared.take()
            && let Ok(mut idle) = shared.idle.lock()
        {
            idle.push(Idle { connection, since: Instant::now(), generation });
        }
    }

    /// Takes it out of the set.
    pub fn into_connection(self) -> PgConnection {
        self.connection
    }

    pub async fn ping(&mut self) -> Result<(), StoreError> {
        within(self.deadline, self.connection.ping()).await.map_err(errors::of_statement)
    }

    /// Runs statements without parameters in one round trip.
    pub async fn run(&mut self, sql: impl SqlSafeStr) -> Result<(), StoreError> {
        let run = sqlx::raw_sql(sql).execute(&mut self.connection);
        within(self.deadline, run).await.map(|_| ()).map_err(errors::of_statement)
    }

    /// The same, and answers the rows of all of them. Values are text.
    pub async fn rows(&mut self, sql: impl SqlSafeStr) -> Result<Vec<PgRow>, StoreError> {
        let rows = sqlx::raw_sql(sql).fetch_all(&mut self.connection);
        within(self.deadline, rows).await.map_err(errors::of_statement)
    }
}

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
