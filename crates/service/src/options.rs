//! The options of a server.

use std::sync::Arc;
use std::time::Duration;

use crate::browsers::Origins;
use crate::deadlines::Deadlines;
use crate::guard::SharedGuard;
use crate::server_tls::ServerTls;

/// The options of a server, in addition to its listener and its routes.
#[derive(Clone)]
pub struct ServeOptions {
    /// How long the server waits for its clients and for its shutdown.
    pub deadlines: Deadlines,
    /// Checks every request before it is handled. With `None` every request passes, at no cost.
    pub guard: SharedGuard,
    /// The certificate with which the server speaks TLS, and nothing else. With `None` it speaks plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// The maximum number of connections, if the process may open enough files.
    pub max_connections: usize,
    /// The origins of other sites whose pages may use the server.
    pub origins: Origins,
}

/// The maximum number of connections of a server that clients use.
const MAX_CONNECTIONS: usize = 8_192;

impl ServeOptions {
    /// Returns options with the deadlines of [`Deadlines::new`], without a guard and without TLS.
    pub fn new(shutdown_timeout: Duration) -> Self {
        Self::from(Deadlines::new(shutdown_timeout))
    }

    /// Sets the origins of other sites whose pages may use the server.
    #[must_use]
    pub fn open_to(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the guard that checks every request.
    #[must_use]
    pub fn guarded_by(mut self, guard: SharedGuard) -> Self {
        self.guard = guard;
        self
    }

    /// Sets the maximum number of connections.
    #[must_use]
    pub fn at_most(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets the certificate with which the server speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<ServerTls>>) -> Self {
        self.tls = tls;
        self
    }
}

impl From<Deadlines> for ServeOptions {
    fn from(deadlines: Deadlines) -> Self {
        let origins = Origins::default();
        Self { deadlines, guard: None, tls: None, origins, max_connections: MAX_CONNECTIONS }
    }
}
