//! SQLite's result codes → what they mean for us.

use std::time::Duration;

use crate::StoreError;

/// The longest that a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives a query a deadline.
pub(super) async fn within<T>(query: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(QUERY_TIMEOUT, query).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Conflict(format!("the query took longer than {QUERY_TIMEOUT:?}"))),
    }
}

/// An error of a statement whose data is not the events' own: a refusal there is a fault of ours.
pub(super) fn of_statement(error: sqlx::Error) -> StoreError {
    let message = error.to_string();
    match &error {
        sqlx::Error::Database(_) => match code(&error) & 0xff {
            // Busy, locked: another process has the file.
            5 | 6 => StoreError::Conflict(message),
            // Input/output error, cannot open: the disk may come back, and the file is opened anew.
            10 | 14 => StoreError::Unavailable(message),
            // Full, read only, corrupt, not a database: somebody has to see to it.
            _ => StoreError::Failed(message),
        },
        sqlx::Error::WorkerCrashed | sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => StoreError::Unavailable(message),
        _ => StoreError::Failed(message),
    }
}

/// An error of the statement that inserts events: here the data may be refused, by a constraint
/// (also a trigger's), as too big, or as of the wrong type.
pub(super) fn of_insert(error: sqlx::Error) -> StoreError {
    let code = code(&error);
    match (&error, code & 0xff) {
        (sqlx::Error::Database(database), 18..=20) => {
            StoreError::Refused { code: format!("SQLITE_{code}"), message: database.message().to_owned() }
        }
        _ => of_statement(error),
    }
}

/// SQLite's extended result code; 0 where the error is not SQLite's.
fn code(error: &sqlx::Error) -> u32 {
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}
