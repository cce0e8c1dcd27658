//! What Redis's errors mean to the log.

use redis::{ErrorKind, RedisError};

use crate::LogError;

/// An error, before the verbs have dealt with what they can mend themselves.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream or the group is missing: Redis lost its data.
    NoGroup(String),
    /// The script is not loaded.
    NoScript,
    /// For the caller.
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
            // Both were mended already and came again: somebody removes them as fast.
            Fault::NoGroup(text) => Self::Unavailable(text),
            Fault::NoScript => Self::Unavailable("Redis forgets scripts as fast as they are loaded".into()),
            Fault::Log(error) => error,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let Some(code) = code(&error) else {
            return Self::Log(match error.kind() {
                ErrorKind::Parse | ErrorKind::UnexpectedReturnType => LogError::Failed(text),
                _ => LogError::Unavailable(text),
            });
        };
        match code.as_str() {
            "NOSCRIPT" => Self::NoScript,
            // The second is what a read gets whose stream vanished while it was waiting.
            "NOGROUP" | "UNBLOCKED" => Self::NoGroup(text),
            "OOM" => Self::Log(LogError::Full(text)),
            "MISCONF" if text.contains("No space left") => Self::Log(LogError::Full(text)),
            "LOADING" | "BUSY" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "MISCONF" | "NOREPLICAS"
            // A password that is being changed.
            | "NOAUTH" | "WRONGPASS" => Self::Log(LogError::Unavailable(text)),
            _ => Self::Log(LogError::Failed(text)),
        }
    }
}

/// Whether the connection should be made anew before the next command: it broke, or its answers
/// stay out, or it leads to a server that is no longer the primary.
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    match code(error) {
        Some(code) => code == "READONLY" || code == "MASTERDOWN",
        None => true,
    }
}

/// The first word of the server's error; `None` when the error is not the server's. Of a transaction
/// that was aborted it is that of the command which was the reason.
fn code(error: &RedisError) -> Option<String> {
    let code = error.code();
    if code.is_some_and(|code| code != "EXECABORT") {
        return code.map(str::to_owned);
    }
    let errors = error.clone().into_server_errors().unwrap_or_default();
    errors.first().map(|(_, error)| error.code()).or(code).map(str::to_owned)
}

/// An answer of an unexpected shape.
pub(super) fn unexpected(what: &str) -> LogError {
    LogError::Failed(format!("unexpected answer to {what}"))
}
