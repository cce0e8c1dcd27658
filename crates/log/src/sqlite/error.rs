//! Maps SQLite's errors to those of the log.

use crate::LogError;

const FULL: i32 = 13;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const IO: i32 = 10;

impl From<sqlx::Error> for LogError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match error {
            sqlx::Error::Database(error) => {
                // The low byte is the primary result code.
                match error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff) {
                    Some(FULL) => Self::NoSpace(text),
                    Some(BUSY | LOCKED | IO) => Self::Unavailable(text),
                    _ => Self::Failed(text),
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(text)
            }
            _ => Self::Failed(text),
        }
    }
}
