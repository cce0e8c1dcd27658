//! How a server is run.

use std::time::Duration;

use crate::deadlines::Deadlines;
use crate::guard::SharedGuard;

/// What a server is given beside its listener and its routes.
#[derive(Clone)]
pub struct ServeOptions {
    /// How long it waits for its clients and for its own end.
    pub deadlines: Deadlines,
    /// Checks every request before anything answers it. Without one nothing is checked, at no cost.
    pub guard: SharedGuard,
}

impl ServeOptions {
    /// Returns the deadlines of [`Deadlines::new`] and no guard.
    pub fn new(shutdown_timeout: Duration) -> Self {
        Self::from(Deadlines::new(shutdown_timeout))
    }

    /// Has every request checked by this guard.
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
