//! A lock on the table of events: what the aggregators have in flight stays in flight while it is held.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::store::StoreAddress;
use crate::wait::{holds, wait_until};

/// How long it may take until the lock is held, or a replica waits for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A lock on the table of events in Postgres: nobody stores anything until it is released.
#[derive(Debug)]
pub struct TableLock {
    connection: PgConnection,
    pid: i32,
    url: String,
    table: String,
}

impl TableLock {
    /// Waits until it is held.
    pub async fn take(store: &StoreAddress) -> Self {
        wait_until("the table of events is locked", PATIENCE, || async {
            Self::try_take(store).await.map_err(|error| error.to_string())
        })
        .await
    }

    async fn try_take(store: &StoreAddress) -> sqlx::Result<Self> {
        let StoreAddress::Postgres { url, schema } = store else { unreachable!("it is in Postgres") };
        let table = format!("\"{schema}\".events");
        let mut connection = PgConnection::connect(url).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let sql = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        Ok(Self { connection, pid, url: url.clone(), table })
    }

    /// Waits until this replica has a batch that waits for the lock. Its entries cannot be
    /// acknowledged before the lock is released, whatever the replica does: that entries are pending
    /// would say less, because the acknowledgement of stored ones may be on its way.
    pub async fn holds_up(&self, replica: &str) {
        wait_until(&format!("{replica} has a batch that it cannot store"), PATIENCE, || async {
            let waiting = self.held_up().await.map_err(|error| error.to_string())?;
            holds(waiting.iter().any(|name| name == replica), || format!("of these replicas one waits: {waiting:?}"))
        })
        .await;
    }

    /// Waits until any replica has a batch that waits for the lock.
    pub async fn holds_up_any(&self) {
        wait_until("a replica has a batch that it cannot store", PATIENCE, || async {
            let waiting = self.held_up().await.map_err(|error| error.to_string())?;
            holds(!waiting.is_empty(), || "no replica waits for the lock".to_owned())
        })
        .await;
    }

    /// The replicas that wait for the lock at this moment. On a connection of its own: within one
    /// transaction Postgres tells of the other sessions always the same.
    async fn held_up(&self) -> sqlx::Result<Vec<String>> {
        let sql = "SELECT substr(application_name, 8) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE NOT granted AND relation = $1::regclass AND starts_with(application_name, 'sluice ')";
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::query_scalar(sql).bind(&self.table).fetch_all(&mut connection).await
    }

    /// The server's process that holds it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets it go; it must have held until now.
    pub async fn release(mut self) {
        self.connection.execute("COMMIT").await.expect("the lock was held until now");
    }
}
