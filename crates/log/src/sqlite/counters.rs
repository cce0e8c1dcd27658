//! The counters, as an audit reads them: from a folder that a process may have open, and without changing it.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::open::BUSY_TIMEOUT;
use crate::{LogCounters, LogError};

/// Returns the counters of the log in a folder.
///
/// # Errors
/// When there is no log in the folder.
pub async fn counters(folder: &Path) -> Result<LogCounters, LogError> {
    let options =
        SqliteConnectOptions::new().filename(folder.join("log.db")).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.disable_statement_logging().connect().await?;
    let counts = sqlx::query_as("SELECT appended, acknowledged FROM counts");
    let counts: Option<(i64, i64)> = counts.fetch_optional(&mut connection).await?;
    let _ = connection.close().await;
    let (appended, acknowledged) = counts.unzip();
    Ok(LogCounters { appended: appended.map(i64::cast_unsigned), acknowledged: acknowledged.map(i64::cast_unsigned) })
}
