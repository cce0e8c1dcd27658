//! Finds the primary by the Sentinels that watch it.
//!
//! The client of the library is not used: it reads the files of TLS only once, asks for all that the Sentinels watch,
//! and has no deadline for a Sentinel that accepts a connection and does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::ConnectionInfo;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::address::{Address, SentinelLogin, name};
use super::error::Fault;
use super::open::{CONNECT_TIMEOUT, open};
use super::role::check_primary;
use super::tls::RedisTls;
use crate::LogError;

/// How long one Sentinel may take. The next one is asked after it.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The Sentinels, and what they call the primary.
pub(super) struct Sentinels {
    name: String,
    address: Address,
    sentinels: Vec<ConnectionInfo>,
    /// The one to ask first: the last one that knew the primary.
    first: AtomicUsize,
}

impl Sentinels {
    pub fn new(name: &str, address: &Address, login: &SentinelLogin) -> Self {
        let sentinels = address.sentinels(login);
        Self { name: name.to_owned(), address: address.clone(), sentinels, first: AtomicUsize::new(0) }
    }

    /// Asks the Sentinels in turn where the primary is, until a server that one of them names is the primary. Shortly
    /// after a failover, some still name the server that was it before.
    ///
    /// # Errors
    /// What each Sentinel, or the server that it named, answered.
    pub async fn connect(
        &self,
        files: &RedisTls,
        answer_timeout: Option<Duration>,
    ) -> Result<(ConnectionInfo, MultiplexedConnection), LogError> {
        let mut tried = Vec::new();
        let mut failures = Vec::new();
        let first = self.first.load(Ordering::Relaxed);
        for index in (0..self.sentinels.len()).map(|offset| (first + offset) % self.sentinels.len()) {
            let sentinel = &self.sentinels[index];
            let failure = match self.ask(sentinel, files).await {
                Ok(server) if tried.contains(&server) => continue,
                Ok(server) => {
                    let info = self.address.server(&server.0, server.1);
                    tried.push(server);
                    match primary(&info, files, answer_timeout).await {
                        Ok(connection) => {
                            self.first.store(index, Ordering::Relaxed);
                            return Ok((info, connection));
                        }
                        Err(error) => (name(&info), error),
                    }
                }
                Err(error) => (format!("Sentinel {}", name(sentinel)), error),
            };
            failures.push(failure);
        }
        Err(self.explain(&failures))
    }

    /// Returns the host and the port that a Sentinel names.
    async fn ask(&self, sentinel: &ConnectionInfo, files: &RedisTls) -> Result<(String, u16), LogError> {
        let answer = async {
            let mut connection = open(sentinel, files, SENTINEL_TIMEOUT, Some(SENTINEL_TIMEOUT)).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("get-master-addr-by-name").arg(&self.name);
            let answer: Option<(String, u16)> = command.query_async(&mut connection).await.map_err(Fault::from)?;
            answer.ok_or_else(|| LogError::Unavailable(format!("it does not know {:?}", self.name)))
        };
        let answer = timeout(SENTINEL_TIMEOUT, answer).await;
        answer.unwrap_or_else(|_| Err(LogError::Unavailable("it does not answer".into())))
    }

    fn explain(&self, failures: &[(String, LogError)]) -> LogError {
        let all: Vec<_> = failures.iter().map(|(who, error)| format!("{who}: {}", reason(error))).collect();
        let text = format!("the primary {:?} was not found: {}", self.name, all.join("; "));
        let refused = failures.iter().find(|(_, error)| matches!(error, LogError::Unauthenticated(_)));
        match refused {
            Some((who, _)) if who.starts_with("Sentinel") => {
                LogError::Unauthenticated(format!("{text} (for Sentinels it is --redis-sentinel-password)"))
            }
            Some(_) => LogError::Unauthenticated(text),
            None => LogError::Unavailable(text),
        }
    }
}

/// Connects to a server, which must be the primary.
async fn primary(
    info: &ConnectionInfo,
    files: &RedisTls,
    answer_timeout: Option<Duration>,
) -> Result<MultiplexedConnection, LogError> {
    let mut connection = open(info, files, CONNECT_TIMEOUT, answer_timeout).await?;
    match timeout(CONNECT_TIMEOUT, check_primary(&mut connection)).await {
        Ok(checked) => checked.map(|()| connection),
        Err(_) => Err(LogError::Unavailable("the server does not answer".into())),
    }
}

/// Returns the message of an error without what all errors of a log begin with.
fn reason(error: &LogError) -> &str {
    match error {
        LogError::Unavailable(reason)
        | LogError::Unauthenticated(reason)
        | LogError::Full(reason)
        | LogError::NoSpace(reason)
        | LogError::Failed(reason) => reason,
    }
}
