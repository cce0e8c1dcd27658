//! A lock on the table of events: while it is held, the batches of the aggregators stay in flight.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::store::StoreAddress;
use crate::wait::{holds, wait_until};

/// The timeout for taking the lock, and for a replica to wait for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A lock on the table of events in Postgres: nobody stores anything until it is released.
#[derive(Debug)]
pub struct TableLock {
    connection: PgConnection,
    pid: i32,
    url: String,
    schema: String,
}

impl TableLock {
    /// Waits until the lock is held.
    pub async fn take(store: &StoreAddress) -> Self {
        wait_until("the table of events is locked", PATIENCE, || async {
            Self::try_take(store).await.map_err(|error| error.to_string())
        })
        .await
    }

    async fn try_take(store: &StoreAddress) -> sqlx::Result<Self> {
        let StoreAddress::Postgres { url, schema } = store else { unreachable!("it is in Postgres") };
        let mut connection = PgConnection::connect(url).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        // With all its partitions. A schema of an older version has none.
        let partitioned = format!("SELECT to_regclass('\"{schema}\".event_rows') IS NOT NULL");
        let is_partitioned: bool = sqlx::query_scalar(AssertSqlSafe(partitioned)).fetch_one(&mut connection).await?;
        let table = if is_partitioned { "event_rows" } else { "events" };
        let sql = format!("BEGIN; LOCK TABLE \"{schema}\".{table} IN SHARE MODE");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(Self { connection, pid, url: url.clone(), schema: schema.clone() })
    }

    /// Waits until this replica has a batch that waits for the lock. The entries of that batch cannot be
    /// acknowledged before the lock is released, whatever the replica does. It would not be enough that entries
    /// are pending, because the acknowledgement of stored entries may already be under way.
    pub async fn holds_up(&self, replica: &str) {
        wait_until(&format!("{replica} has a batch that it cannot store"), PATIENCE, || async {
            let waiting = self.held_up().await.map_err(|error| error.to_string())?;
            holds(waiting.iter().any(|name| name == replica), || format!("of these replicas one waits: {waiting:?}"))
        })
        .await;
    }

    /// Waits until any replica has a batch that waits for the lock; returns those that have.
    pub async fn holds_up_any(&self) -> Vec<String> {
        wait_until("a replica has a batch that it cannot store", PATIENCE, || async {
            let waiting = self.held_up().await.map_err(|error| error.to_string())?;
            if waiting.is_empty() { Err("no replica waits for the lock".to_owned()) } else { Ok(waiting) }
        })
        .await
    }

    /// Returns the replicas that wait for the lock at this moment. It uses a connection of its own, because
    /// within one transaction Postgres always returns the same snapshot of the other sessions.
    async fn held_up(&self) -> sqlx::Result<Vec<String>> {
        let sql = "SELECT substring(application_name FROM '[^/]*$') FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE NOT granted AND starts_with(application_name, 'sluice ') AND relation IN ( \
                       SELECT oid FROM pg_class \
                       WHERE relnamespace = quote_ident($1)::regnamespace AND relname ~ '^events$|^event_rows')";
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::query_scalar(sql).bind(&self.schema).fetch_all(&mut connection).await
    }

    /// Returns the process id of the server process that holds the lock.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Releases the lock. It must have been held until now.
    pub async fn release(mut self) {
        self.connection.execute("COMMIT").await.expect("the lock was held until now");
    }
}
