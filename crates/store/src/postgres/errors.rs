//! SQLSTATE → what it means for us.

use std::time::Duration;

use sqlx::error::DatabaseError;

use crate::StoreError;

/// Gives a call a deadline of its own: a server that is stopped or cut off does not answer, and
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

/// An error of a statement whose data is not the events' own: a refusal there is a fault of ours.
pub(super) fn of_statement(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => of_code(&**database),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

/// An error of the statement that inserts events: here the data may be refused.
pub(super) fn of_insert(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        let code = database.code().unwrap_or_default();
        if refuses_data(&code) {
            return StoreError::Refused { code: code.into_owned(), message: database.message().to_owned() };
        }
    }
    of_statement(error)
}

/// Whether an SQLSTATE says that the data will be refused again: 22 data exception, 23 violated
/// constraint, 44 violated check option, 54 a limit of the program (an index row too long, JSON
/// nested too deep), P0001 raised by somebody's trigger. Not 21 and 42, which are faults in a
/// statement, nor XX, which is a fault in the server or its files: those say nothing of the data.
fn refuses_data(code: &str) -> bool {
    matches!(code.get(..2), Some("22" | "23" | "44" | "54")) || code == "P0001"
}

fn of_code(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let message = format!("{code}: {}", error.message());
    match &*code {
        // Serialization failure, deadlock, lock not available, query canceled (statement time-out).
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Conflict(message),
        // Too many connections, out of memory, a standby that takes no writes, a transaction that
        // waited too long and was ended.
        "53300" | "53200" | "25006" | "25P03" | "25P04" => StoreError::Unavailable(message),
        // A connection that failed, a server that stops or starts.
        _ if code.starts_with("08") || code.starts_with("57P0") => StoreError::Unavailable(message),
        _ => StoreError::Failed(message),
    }
}

/// Whether an error says that our tables are not there: undefined table, invalid schema name.
pub(super) fn is_missing_table(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed(message) if message.starts_with("42P01") || message.starts_with("3F000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_about_the_data_refuse_it() {
        for code in ["22021", "22P02", "22P05", "23502", "23514", "44000", "54000", "54001", "P0001"] {
            assert!(refuses_data(code), "{code}");
        }
        for code in ["", "21000", "40001", "42P01", "42601", "53100", "57014", "XX000", "XX001", "P0002"] {
            assert!(!refuses_data(code), "{code}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_unavailable() {
        let silence = std::future::pending::<Result<(), sqlx::Error>>();
        let error = within(Duration::from_millis(1), silence).await.map_err(of_insert).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
}
