//! The limit on files that the process may open. Each connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit to the highest value that the process may set. Many systems start programs with 1,024, which is
/// fewer than the connections that a server may have.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, ?before, maximum = ?limit.maximum, "cannot raise the limit of open files");
    }
}

/// Returns the limit; `None` when there is none.
pub(crate) fn limit() -> Option<usize> {
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok())
}
