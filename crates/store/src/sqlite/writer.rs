//! The one connection that writes.

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::errors::of_statement;
use crate::StoreError;

/// The longest that a transaction waits for the one before it: far longer than any takes, so that reaching it
/// means that the disk is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection, which is opened when it is needed.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    in_transaction: bool,
}

/// Waits for exclusive use of the writer.
pub(super) async fn lock(writer: &Arc<Mutex<Writer>>) -> Result<OwnedMutexGuard<Writer>, StoreError> {
    let guard = tokio::time::timeout(LOCK_TIMEOUT, Arc::clone(writer).lock_owned()).await;
    guard.map_err(|_| StoreError::Conflict(format!("another transaction took longer than {LOCK_TIMEOUT:?}")))
}

impl Writer {
    pub fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: None, in_transaction: false }
    }

    /// Returns the connection outside of a transaction: one that was not committed is rolled back.
    pub async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if self.in_transaction {
            // ROLLBACK fails if an error has ended the transaction, or if the connection is unusable. The two are
            // not told apart: the connection is opened again.
            if self.run("ROLLBACK").await.is_err() {
                self.connection = None;
            }
            self.in_transaction = false;
        }
        self.current().await
    }

    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Begins a transaction that holds the write lock. Returns the last `seq` used before it.
    pub async fn begin(&mut self) -> Result<i64, StoreError> {
        self.connection().await?;
        // Set first: if this call is cancelled, a transaction may have begun.
        self.in_transaction = true;
        self.run("BEGIN IMMEDIATE").await?;
        let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'");
        let last: Option<i64> = last.fetch_optional(self.current().await?).await.map_err(of_statement)?;
        Ok(last.unwrap_or(0))
    }

    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Returns the connection as it is, in a transaction or not. Opens it if it is closed.
    pub async fn current(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await.map_err(of_statement)?);
        }
        self.connection.as_mut().ok_or_else(|| StoreError::Unavailable("the file is not open".into()))
    }

    pub async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let connection = self.current().await?;
        sqlx::raw_sql(sql).execute(connection).await.map(|_| ()).map_err(of_statement)
    }

    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }
}

/// Commits, or rolls back after an error.
pub(super) async fn end<T>(writer: &mut Writer, result: &Result<T, StoreError>) -> Result<(), StoreError> {
    match result {
        Ok(_) => writer.commit().await,
        // Returns the connection outside of the transaction.
        Err(_) => writer.connection().await.map(|_| ()),
    }
}
