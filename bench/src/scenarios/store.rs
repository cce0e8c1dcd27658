//! Reads numbers from the store of a running system, on a connection of its own.

use std::path::Path;

use anyhow::Context;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

/// A connection that is used for reading only.
#[derive(Debug)]
pub enum Store {
    /// To PostgreSQL.
    Postgres(PgConnection),
    /// To a SQLite file.
    Sqlite(SqliteConnection),
}

impl Store {
    /// Opens a SQLite file that another process writes to.
    pub async fn sqlite(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let connection = options.connect().await.with_context(|| path.display().to_string())?;
        Ok(Self::Sqlite(connection))
    }

    /// Returns the four numbers in the one row of a query's result.
    pub async fn numbers(&mut self, query: &str) -> anyhow::Result<(i64, i64, i64, i64)> {
        let sql = AssertSqlSafe(query.to_owned());
        let row = match self {
            Self::Postgres(connection) => sqlx::query_as(sql).fetch_one(connection).await,
            Self::Sqlite(connection) => sqlx::query_as(sql).fetch_one(connection).await,
        };
        row.with_context(|| query.to_owned())
    }
}
