//! The table that Sluice writes events to, and empty tables like it.

use anyhow::Context;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

/// Returns the table of the open partition of events in a schema of Sluice, as SQL names it.
pub async fn open_partition(connection: &mut PgConnection, schema: &str) -> anyhow::Result<String> {
    let number = format!("SELECT number FROM \"{schema}\".event_partitions WHERE closed_at IS NULL");
    let number: i32 = sqlx::query_scalar(AssertSqlSafe(number))
        .fetch_one(connection)
        .await
        .context("the open partition of events")?;
    Ok(format!("\"{schema}\".event_rows_{number}"))
}

/// Creates an empty table with the columns, the indexes and the storage parameters of another one.
pub async fn create_like(connection: &mut PgConnection, table: &str, like: &str) -> anyhow::Result<()> {
    let parameters = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::regclass";
    let parameters: Option<String> = sqlx::query_scalar(parameters).bind(like).fetch_one(&mut *connection).await?;
    let mut create = format!("CREATE TABLE {table} (LIKE {like} INCLUDING ALL)");
    if let Some(parameters) = parameters {
        // LIKE does not copy them.
        create.push_str(&format!("; ALTER TABLE {table} SET ({parameters})"));
    }
    connection.execute(AssertSqlSafe(create)).await.with_context(|| format!("a table like {like}"))?;
    Ok(())
}
