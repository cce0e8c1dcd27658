//! The options of a server.

use std::time::Duration;

use crate::deadlines::Deadlines;
use crate::guard::SharedGuard;

/// The options of a server, in addition to its listener and its routes.
#[derive(Clone)]
pub struct ServeOptions {
    /// How long the server waits for its clients and for its shutdown.
    pub deadlines: Deadlines,
    /// Checks every request before it is handled. With `None` every request passes, at no cost.
    pub guard: SharedGuard,
}

impl ServeOptions {
    /// Returns options with the deadlines of [`Deadlines::new`] and without a guard.
    pub fn new(shutdown_timeout: Duration) -> Self {
        Self::from(Deadlines::new(shutdown_timeout))
    }

    /// Sets the guard that checks every request.
    #[must_use]
    pub fn guarded_by(mut self, guard: SharedGuard) -> Self {
        self.guard = guard;
        self
    }
}

impl From<Deadlines> for ServeOptions {
    fn from(deadlines: Deadlines) -> Self {
        Self { deadlines, guard: None }
    }
}
