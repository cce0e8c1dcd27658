//! Logging to standard error: as text on a terminal, as JSON otherwise. Lines are written on a thread of their own
//! and are lost when standard error is not read in time: logging never blocks.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::log_writer::{self, LogWriter};

/// The environment variable with the level, or directives such as `info,sluice_log=debug`.
const VARIABLE: &str = "SLUICE_LOG";

/// Starts logging at the level in `SLUICE_LOG` (default `info`). Further calls do nothing.
pub fn init() {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let (filter, refused) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let terminal = std::io::stderr().is_terminal();
    // JSON has escapes of its own.
    let writer = LogWriter::to_stderr(terminal);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if terminal {
        tracing::subscriber::set_global_default(subscriber.with_target(false).finish())
    } else {
        tracing::subscriber::set_global_default(subscriber.json().with_span_list(false).finish())
    };
    if let (Ok(()), Some(error)) = (started, refused) {
        tracing::warn!(%error, "{VARIABLE}={wanted} is not a valid level or directive; logging at info");
    }
}

/// Waits until the lines logged so far are written, for a second at most. Call it before the process ends.
pub fn flush() {
    log_writer::flush();
}
