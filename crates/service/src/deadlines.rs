//! How long a server waits for its clients and for its own end.

use std::time::Duration;

/// How long a server waits for others.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first moment a request could come on a connection until its headers are in. A
    /// client that sent a part of them is answered 408; an idle one is disconnected.
    pub headers: Duration,
    /// For how long a client may leave its answer unread until it is cut off.
    pub write: Duration,
    /// From the start of the shutdown until connections are cut.
    pub shutdown_timeout: Duration,
}

impl Deadlines {
    /// Half a minute for clients.
    pub fn usual(shutdown_timeout: Duration) -> Self {
        let wait = Duration::from_secs(30);
        Self { headers: wait, write: wait, shutdown_timeout }
    }
}
