//! Conversion of sqlx's errors into those of the store.

use std::time::Duration;

use super::sqlstate::{Meaning, SqlState};
use crate::StoreError;

/// Gives a call a deadline on the client's side: a server that is stopped or cut off does not answer, and
/// the kernel would wait for many minutes.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {deadline:?}"),
        ))),
    }
}

/// Converts an error of a statement whose data does not come from events: a refusal of the data is a fault
/// of this program.
pub(super) fn of_statement(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let message = format!("{code}: {}{}", database.message(), hint(&code));
            match SqlState::from_code(&code).meaning() {
                Meaning::Conflict => StoreError::Conflict(message),
                Meaning::TooSlow => StoreError::TooSlow(message),
                Meaning::Unavailable => StoreError::Unavailable(message),
                Meaning::DiskFull => StoreError::DiskFull(message),
                Meaning::Damaged => StoreError::Damaged(message),
                Meaning::Behind => StoreError::Behind(message),
                Meaning::RefusesData | Meaning::MissingTables | Meaning::Failed => StoreError::Failed(message),
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

/// Returns what is added to the message of an error. Prepared statements are gone, or there twice, when a pooler has given
/// a transaction another session of the server: its mode may have been changed while this program runs.
fn hint(code: &str) -> &'static str {
    match code {
        "26000" | "42P05" => "; a pooler in front of PostgreSQL must be in session mode",
        _ => "",
    }
}

/// Converts an error of the statement that inserts events, whose data may be refused.
pub(super) fn of_insert(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        let code = database.code().unwrap_or_default();
        if SqlState::from_code(&code).meaning() == Meaning::RefusesData {
            return StoreError::Refused { code: code.into_owned(), message: database.message().to_owned() };
        }
    }
    of_statement(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_unavailable() {
        let silence = std::future::pending::<Result<(), sqlx::Error>>();
        let error = within(Duration::from_millis(1), silence).await.map_err(of_insert).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
}
