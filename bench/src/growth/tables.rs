//! The other table: COPY's, which has the same rows.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::JoinSet;

use crate::system::servers::Servers;

/// Connections that fill it: as many as there are cores in the machine that figures are quoted of.
const CONNECTIONS: i64 = 2;

/// The largest seq of `SCHEMA.events`.
pub async fn newest(connection: &mut PgConnection, schema: &str) -> anyhow::Result<i64> {
    let newest = format!("SELECT coalesce(max(seq), -1) FROM \"{schema}\".events");
    sqlx::query_scalar(AssertSqlSafe(newest)).fetch_one(connection).await.context("the newest row")
}

/// Brings the table up to the rows of another that it has up to a seq; answers up to which it has
/// them now. Row by row in the order of arrival, so that the indexes become what they would have.
pub async fn follow(servers: &Servers, from: &str, to: &str, copied: i64) -> anyhow::Result<i64> {
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
        part.context("filling COPY's table broke off")??;
    }
    Ok(newest)
}
