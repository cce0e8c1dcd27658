//! Opens files.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

/// Opens a file as the store does.
pub async fn open(file: &Path) -> SqliteConnection {
    let mut options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-24576")
        .page_size(8 << 10)
        .pragma("wal_autocheckpoint", "8192")
        .pragma("journal_size_limit", (64 << 20).to_string())
        .statement_cache_capacity(64)
        .disable_statement_logging();
    // Must be set before there are tables.
    for name in ["auto_vacuum", "secure_delete"] {
        if let Ok(value) = std::env::var(name.to_uppercase()) {
            options = options.pragma(name, value);
        }
    }
    options.connect().await.unwrap()
}
