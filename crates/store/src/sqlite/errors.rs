//! Conversion of SQLite's result codes into the errors of the store.

use std::time::Duration;

use crate::StoreError;

/// The longest that a query may take: then SQLite interrupts it.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for a query and its connection. It is over only if the disk does not answer: then SQLite cannot
/// interrupt anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(17);

/// Gives a query a deadline.
pub(super) async fn within<T>(query: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, query).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
    }
}

/// Converts an error of a statement whose data does not come from events: a refusal of the data is a fault of
/// this program.
pub(super) fn of_statement(error: sqlx::Error) -> StoreError {
    let message = error.to_string();
    match &error {
        sqlx::Error::Database(_) => match code(&error) & 0xff {
            // SQLITE_BUSY, SQLITE_LOCKED: another process has locked the file.
            5 | 6 => StoreError::Conflict(message),
            // SQLITE_INTERRUPT: its time was over.
            9 => StoreError::TooSlow(message),
            // SQLITE_IOERR, SQLITE_CANTOPEN: the disk may come back, and the file is opened again.
            10 | 14 => StoreError::Unavailable(message),
            // SQLITE_FULL.
            13 => StoreError::DiskFull(message),
            // SQLITE_CORRUPT, SQLITE_NOTADB: somebody has to repair it.
            11 | 26 => StoreError::Damaged(message),
            // Read-only, for example.
            _ => StoreError::Failed(message),
        },
        sqlx::Error::WorkerCrashed | sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => StoreError::Unavailable(message),
        _ => StoreError::Failed(message),
    }
}

/// Converts an error of the statement that inserts events, whose data may be refused: SQLITE_TOOBIG (18),
/// SQLITE_CONSTRAINT (19, also from a trigger) and SQLITE_MISMATCH (20).
pub(super) fn of_insert(error: sqlx::Error) -> StoreError {
    let code = code(&error);
    match (&error, code & 0xff) {
        (sqlx::Error::Database(database), 18..=20) => {
            StoreError::Refused { code: format!("SQLITE_{code}"), message: database.message().to_owned() }
        }
        _ => of_statement(error),
    }
}

/// Returns SQLite's extended result code; 0 if the error is not from SQLite.
fn code(error: &sqlx::Error) -> u32 {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}
