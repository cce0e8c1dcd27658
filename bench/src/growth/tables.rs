//! COPY's large table, which has the same rows as Sluice's.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;

use crate::system::servers::Servers;

/// The connections that fill the table: as many as the machine of the published figures has cores.
const CONNECTIONS: i64 = 2;

/// Returns the largest seq of `SCHEMA.events`, or -1 if it has no rows.
pub async fn newest(connection: &mut PgConnection, schema: &str) -> anyhow::Result<i64> {
    let newest = format!("SELECT coalesce(max(seq), -1) FROM \"{schema}\".events");
    sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(connection).await.context("the newest row")
}

/// Copies the rows of `from.events` whose seq is larger than `copied` into `to.events`. Returns the largest
/// seq that is copied now. The rows are inserted one by one in the order of arrival, so that the indexes get the
/// same shape as Sluice's.
pub async fn copy_new_rows(servers: &Servers, from: &str, to: &str, copied: i64) -> anyhow::Result<i64> {
    let newest = newest(&mut servers.postgres().await?, from).await?;
    let middle = copied + (newest - copied) / CONNECTIONS;
    let mut parts = JoinSet::new();
    for (after, until) in [(copied, middle), (middle, newest)] {
        let statement = format!(
            "INSERT INTO \"{to}\".events SELECT * FROM \"{from}\".events WHERE seq > {after} AND seq <= {until} ORDER BY seq"
        );
        let mut connection = servers.postgres().await?;
        parts.spawn(async move {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.context("filling COPY's table")
        });
    }
    while let Some(part) = parts.join_next().await {
        part.context("the task that fills COPY's table failed")??;
    }
    Ok(newest)
}
