//! Opens the folder: the lock that reserves it for one process, and the settings of the database file.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::settings::SqliteSettings;
use crate::LogError;

/// The page size of a new file. Entries are large, and a page is the smallest unit that is written.
const PAGE_BYTES: u64 = 8 << 10;
/// The size of the write-ahead log at which a checkpoint copies its pages to the database file. By then most
/// entries are acknowledged and their pages were written again, and only the last content of a page is copied.
const WAL_BYTES: u64 = 64 << 20;
/// The page cache, in KiB. A transaction that does not fit is written in parts, and some pages are written twice.
const CACHE_KIB: i64 = 4 << 10;
/// A safeguard only, because there is one writer.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Locks the folder for this process. The lock is released when the file is closed, also when the process is killed.
pub(super) fn lock(folder: &Path) -> Result<File, LogError> {
    let failed =
        |error: std::io::Error| LogError::Failed(format!("cannot open the log in {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(folder.join("log.lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(LogError::Failed(format!("the log in {} is in use by another process", folder.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Opens the one connection that writes, and creates the tables if they are missing.
pub(super) async fn writing(settings: &SqliteSettings) -> Result<SqlitePool, LogError> {
    let mut options = options(settings).pragma("cache_size", (-CACHE_KIB).to_string());
    if let Some(bytes) = settings.max_bytes {
        options = options.pragma("max_page_count", (bytes / PAGE_BYTES).max(16).to_string());
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_with(options)
        .await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&pool).await?;
    Ok(pool)
}

/// Opens the connections that read. They neither wait for the writer nor block it.
pub(super) async fn reading(settings: &SqliteSettings) -> Result<SqlitePool, LogError> {
    let pool = SqlitePoolOptions::new().max_connections(2).idle_timeout(None).max_lifetime(None);
    Ok(pool.acquire_timeout(BUSY_TIMEOUT).connect_with(options(settings)).await?)
}

/// Returns the path of the database file.
pub(super) fn file(settings: &SqliteSettings) -> PathBuf {
    settings.folder.join("log.db")
}

fn options(settings: &SqliteSettings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file(settings))
        .create_if_missing(true)
        .page_size(PAGE_BYTES as u32)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("wal_autocheckpoint", (WAL_BYTES / PAGE_BYTES).to_string())
        .pragma("journal_size_limit", WAL_BYTES.to_string())
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
}
