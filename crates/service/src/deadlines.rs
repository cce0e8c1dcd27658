//! How long a server waits: for its clients, and for connections to end at its shutdown.

use std::time::Duration;

/// How long a server waits for others.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the moment at which a connection could send a request until the request's headers are
    /// complete. A client that has sent a part of them gets 408; an idle one is disconnected. For the
    /// first request of a connection it begins with the request's first byte, which may take as long.
    pub headers: Duration,
    /// How long a client may leave its response unread before it is disconnected.
    pub write: Duration,
    /// From the start of the shutdown until the remaining connections are closed by force.
    pub shutdown_timeout: Duration,
}

impl Deadlines {
    /// Returns deadlines of 30 seconds for clients: long enough for a slow network, and short enough
    /// that clients which send nothing do not hold all connections.
    pub fn new(shutdown_timeout: Duration) -> Self {
        let wait = Duration::from_secs(30);
        Self { headers: wait, write: wait, shutdown_timeout }
    }
}
