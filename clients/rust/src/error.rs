//! What can go wrong before an event is on its way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A payload that is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the payload cannot be written as JSON: {0}")]
pub struct InvalidEvent(#[from] serde_json::Error);

/// Why [`Client::send`](crate::Client::send) did not take an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The payload cannot be written as JSON.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// The event alone is larger than a batch may be.
    #[error("the event is {bytes} bytes long, and a batch has at most {limit}")]
    TooLarge {
        /// The length of the event as JSON.
        bytes: usize,
        /// The setting `batch_bytes`.
        limit: usize,
    },
    /// The memory or the spool is full, and the client was told to drop events then. The event is counted as dropped.
    #[error("the event was dropped, because the client is full")]
    Dropped,
    /// The client is closed or being closed. With a spool it is not known whether the event was written to it.
    #[error("the client is closed")]
    Closed,
    /// The event could not be written to the spool, or it is not known whether it was.
    #[error("the spool cannot be written: {0}")]
    Spool(Arc<std::io::Error>),
}

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting has no such value.
    #[error("{setting}: {reason}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// TLS, or the HTTP client, cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] OpenError),
}

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another client of this process, uses the directory.
    #[error("the spool {} is in use by another client", .0.display())]
    InUse(PathBuf),
    /// A segment has a format that this version does not know. It was not touched.
    #[error("{}: the version {version} of the format is not known", .file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// The version in it.
        version: u8,
    },
    /// A file or the directory cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or the directory.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
}

/// Why a request is to be repeated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Why, in words.
    pub reason: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// What went wrong, if there was no answer.
    pub error: Option<reqwest::Error>,
}

/// Events that were not answered in the time that was given for it.
#[derive(Debug, thiserror::Error)]
#[error("{events} events are not answered yet{}", because(.last_failure.as_deref()))]
pub struct Unanswered {
    /// Their number.
    pub events: u64,
    /// Why the last attempt that failed did so.
    pub last_failure: Option<String>,
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!("; the last failure: {reason}")).unwrap_or_default()
}
