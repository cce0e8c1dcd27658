//! Checks a database file that was not closed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

/// The check ends at the third fault: one is enough to refuse the file.
const CHECK: &str = "PRAGMA quick_check(3)";

/// Reads a whole database file and checks its structure and its write-ahead log, if the process that wrote it did not
/// close it: SQLite removes the write-ahead log when a file is closed. Returns what is damaged and what to do; `None` if
/// nothing is. No other process may use the file, and nothing is changed.
///
/// Content that has a checksum of its own, as entries and rows of events have, is not checked.
///
/// # Errors
/// When the file cannot be read.
pub async fn find_damage(file: &Path) -> Result<Option<String>, sqlx::Error> {
    let wal = wal_of(file);
    if std::fs::metadata(&wal).map_or(0, |wal| wal.len()) == 0 {
        return Ok(None);
    }
    let file_name = file.display();
    if !file.try_exists().map_err(sqlx::Error::Io)? {
        let wal = wal.display();
        return Ok(Some(format!("{file_name} is missing, and {wal} has a part of its content: {ADVICE}")));
    }
    let began = Instant::now();
    let (database, log) = (file.to_owned(), wal.clone());
    let damaged = tokio::task::spawn_blocking(move || super::wal::find_damage(&database, &log)).await;
    if let Some(frame) = damaged.map_err(|_| sqlx::Error::WorkerCrashed)?.map_err(sqlx::Error::Io)? {
        let wal = wal.display();
        return Ok(Some(format!("{wal} is damaged (frame {frame}), and what follows in it would be lost: {ADVICE}")));
    }
    let found = faults(file).await?;
    let seconds = began.elapsed().as_secs_f64();
    if found.is_empty() {
        tracing::info!(file = %file_name, seconds, "the file was not closed, and is not damaged");
        return Ok(None);
    }
    Ok(Some(format!("{file_name} is damaged ({}): {ADVICE}", found.join("; "))))
}

/// What to do with a damaged file.
const ADVICE: &str =
    "it was not changed. Move the whole folder away and restore a backup; docs/operations.md, \"Damage\", says more";

async fn faults(file: &Path) -> Result<Vec<String>, sqlx::Error> {
    // Closing the last connection that can write would move the write-ahead log into the file.
    let mut connection = match SqliteConnectOptions::new().filename(file).read_only(true).connect().await {
        Ok(connection) => connection,
        Err(error) => return of_corruption(error),
    };
    let found = match quick_check(&mut connection).await {
        Ok(found) => Ok(found.into_iter().filter(|fault| fault != "ok").collect()),
        Err(error) => of_corruption(error),
    };
    connection.close().await?;
    found
}

async fn quick_check(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(CHECK).fetch_all(connection).await
}

/// Returns the error as a fault of the file, if it is one: SQLITE_CORRUPT (11) or SQLITE_NOTADB (26).
fn of_corruption(error: sqlx::Error) -> Result<Vec<String>, sqlx::Error> {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    if code.is_some_and(|code| matches!(code & 0xff, 11 | 26)) { Ok(vec![error.to_string()]) } else { Err(error) }
}

fn wal_of(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push("-wal");
    name.into()
}
