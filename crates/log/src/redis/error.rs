//! Maps Redis's errors to those of the log.

use redis::{ErrorKind, RedisError};

use super::tls::NAMES;
use crate::LogError;

/// What a server says to the clients that wait for something when it becomes a replica.
const DEMOTED: &str = "instance state changed";

/// An error of a command. The caller can repair the first kind and repeat the command.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream or the group is missing: Redis lost its data.
    NoGroup(String),
    /// An error to return.
    Log(LogError),
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<Fault> for LogError {
    fn from(fault: Fault) -> Self {
        match fault {
            // It was repaired already and occurred again: something removes the group repeatedly.
            Fault::NoGroup(text) => Self::Unavailable(text),
            Fault::Log(error) => error,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let Some(code) = code(&error) else {
            if let Some(reason) = NAMES.explain(&error) {
                return Self::Log(LogError::Unavailable(reason));
            }
            return Self::Log(match error.kind() {
                ErrorKind::Parse | ErrorKind::UnexpectedReturnType => LogError::Failed(text),
                ErrorKind::AuthenticationFailed => LogError::Unauthenticated(text),
                _ => LogError::Unavailable(text),
            });
        };
        match code.as_str() {
            "UNBLOCKED" if text.contains(DEMOTED) => Self::Log(LogError::Unavailable(text)),
            // UNBLOCKED: the stream was removed while a read was waiting for it.
            "NOGROUP" | "UNBLOCKED" => Self::NoGroup(text),
            "OOM" => Self::Log(LogError::Full(text)),
            "MISCONF" if text.contains("No space left") => Self::Log(LogError::NoSpace(text)),
            "LOADING" | "BUSY" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "MISCONF" | "NOREPLICAS"
            // It was loaded, and removed again at once.
            | "NOSCRIPT" => {
                Self::Log(LogError::Unavailable(text))
            }
            "MOVED" | "ASK" => Self::Log(LogError::Unavailable(text)),
            "NOAUTH" | "WRONGPASS" => Self::Log(LogError::Unauthenticated(text)),
            _ => Self::Log(LogError::Failed(text)),
        }
    }
}

/// Returns whether the next command needs a new connection: this one is broken, or the server does not reply, or
/// the server is no longer the primary.
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    match code(error) {
        Some(code) if code == "UNBLOCKED" => error.to_string().contains(DEMOTED),
        Some(code) => code == "READONLY" || code == "MASTERDOWN",
        None => true,
    }
}

/// Returns the first word of the server's error; `None` when the error does not come from the server. For an
/// aborted transaction it is the word of the command that caused the abort.
fn code(error: &RedisError) -> Option<String> {
    server_error(error).map(|(code, _)| code)
}

/// Returns the first word and the rest of the server's error, like [`code`].
pub(super) fn server_error(error: &RedisError) -> Option<(String, String)> {
    let own = error.code().map(|code| (code.to_owned(), error.detail().unwrap_or_default().to_owned()));
    if own.as_ref().is_some_and(|(code, _)| code != "EXECABORT") {
        return own;
    }
    let errors = error.clone().into_server_errors().unwrap_or_default();
    let first =
        errors.first().map(|(_, error)| (error.code().to_owned(), error.details().unwrap_or_default().to_owned()));
    first.or(own)
}

/// Returns the error for a reply of an unexpected shape.
pub(super) fn unexpected(what: &str) -> LogError {
    LogError::Failed(format!("unexpected reply to {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_memory_and_a_full_disk_are_told_apart() {
        let error = |reply: &[u8]| {
            let error = redis::parse_redis_value(reply).unwrap().extract_error().unwrap_err();
            LogError::from(Fault::from(error))
        };
        assert!(matches!(error(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"), LogError::Full(_)));
        let no_space = error(b"-MISCONF Errors writing to the AOF file: No space left on device\r\n");
        assert!(matches!(no_space, LogError::NoSpace(_)), "{no_space}");
        let other = error(b"-MISCONF Errors writing to the AOF file: Input/output error\r\n");
        assert!(matches!(other, LogError::Unavailable(_)), "{other}");
    }
}
