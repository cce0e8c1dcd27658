//! Connections: opened at the first use, and opened again, with backoff, after an error.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    Value,
};
use sluice_service::durability::Durability;
use sluice_service::encryption::{Encryption, Transport};
use tokio::time::timeout;

use super::durability;
use super::error::{Fault, breaks_connection};
use super::tls::{self, RedisTls};
use crate::LogError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Opens connections. During the backoff after a failure it returns an error at once, so that callers do
/// not queue for a server that is unavailable.
struct Dialer {
    info: ConnectionInfo,
    files: RedisTls,
    transport: Transport,
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    failures: u32,
    closed: Option<(Instant, LogError)>,
}

impl Dialer {
    fn new(url: &str, files: &RedisTls) -> Result<Self, LogError> {
        // Without TCP_NODELAY an entry waits until the server's kernel has acknowledged the one before it.
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = url.into_connection_info().map(|info| info.set_tcp_settings(tcp));
        let info = info.map_err(|e| LogError::Failed(format!("the Redis URL is not usable: {e}")))?;
        Ok(Self { transport: tls::transport(&info), info, files: files.clone(), gate: Mutex::default() })
    }

    async fn dial(&self, answer_timeout: Option<Duration>) -> Result<MultiplexedConnection, LogError> {
        if let Some((until, reason)) = &self.gate().closed
            && Instant::now() < *until
        {
            return Err(reason.clone());
        }
        let failure = match self.open(answer_timeout).await {
            Ok(connection) => {
                *self.gate() = Gate::default();
                return Ok(connection);
            }
            Err(failure) => failure,
        };
        let mut gate = self.gate();
        let backoff = FIRST_BACKOFF.saturating_mul(1 << gate.failures.min(10)).min(MAX_BACKOFF);
        gate.failures += 1;
        gate.closed = Some((Instant::now() + backoff.mul_f64(rand::random_range(0.5..1.0)), failure.clone()));
        Err(failure)
    }

    async fn open(&self, answer_timeout: Option<Duration>) -> Result<MultiplexedConnection, LogError> {
        let client = tls::client(&self.info, &self.files)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(answer_timeout);
        match timeout(CONNECT_TIMEOUT, client.get_multiplexed_async_connection_with_config(&config)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.explain(error)),
            Err(_) => Err(LogError::Unavailable(format!("connecting to Redis took too long{}", self.hint()))),
        }
    }

    /// Converts an error of a new connection. It may be a refused password, for example: a retry alone does not help,
    /// but the server may be corrected.
    fn explain(&self, error: RedisError) -> LogError {
        if error.kind() == ErrorKind::InvalidClientConfig {
            // Only the files can be wrong: the URL was checked at the start.
            return LogError::Unavailable(format!("the files of {} cannot be used: {error}", tls::NAMES.certificate));
        }
        let hint = if error.is_io_error() && !error.is_connection_refusal() { self.hint() } else { "" };
        match LogError::from(Fault::from(error)) {
            LogError::Unavailable(reason) if !reason.contains("--redis-") => {
                LogError::Unavailable(format!("{reason}{hint}"))
            }
            other => other,
        }
    }

    /// Returns what may be wrong when the server closes a connection, or does not answer, before the first command: a
    /// server with TLS and one without do so when they are taken for the other.
    fn hint(&self) -> &'static str {
        match self.transport {
            Transport::Encrypted => " (does it offer TLS at the port in --redis-url?)",
            _ => " (if it demands TLS, --redis-url must begin with rediss://)",
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection that all commands share, except those that block.
pub(super) struct Link {
    dialer: Dialer,
    durability: Durability,
    encryption: Encryption,
    current: tokio::sync::Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    generation: u64,
}

impl Link {
    pub fn new(url: &str, files: &RedisTls) -> Result<Self, LogError> {
        let dialer = Dialer::new(url, files)?;
        let (durability, encryption) = (Durability::of("Redis"), Encryption::of("Redis"));
        // The URL decides it: a server cannot change it.
        encryption.record(dialer.transport);
        Ok(Self { dialer, durability, encryption, current: tokio::sync::Mutex::default() })
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Looks again at what the server promises: its settings can be changed while it runs.
    pub async fn check_durability(&self) -> Result<(), LogError> {
        let (mut connection, _) = self.connected().await?;
        self.durability.record(durability::check(&mut connection).await?);
        Ok(())
    }

    /// Returns the number of connections opened so far, and opens one if there is none. State that was set
    /// up on the server in another generation may be lost.
    pub async fn generation(&self) -> Result<u64, LogError> {
        self.connected().await.map(|(_, generation)| generation)
    }

    /// Sends one command.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        let (mut connection, generation) = self.connected().await?;
        match command.query_async(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(error, generation).await),
        }
    }

    /// Sends commands in one step.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        let (mut connection, generation) = self.connected().await?;
        match commands.query_async(&mut connection).await {
            Ok(answers) => Ok(answers),
            Err(error) => Err(self.failed(error, generation).await),
        }
    }

    async fn connected(&self) -> Result<(MultiplexedConnection, u64), LogError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((connection.clone(), current.generation));
        }
        let mut connection = self.dialer.dial(Some(ANSWER_TIMEOUT)).await?;
        // An error says nothing about the server; the command for which the connection was opened will report it.
        if let Ok(Ok(found)) = timeout(CONNECT_TIMEOUT, durability::check(&mut connection)).await {
            self.durability.record(found);
        }
        current.generation += 1;
        current.connection = Some(connection.clone());
        Ok((connection, current.generation))
    }

    async fn failed(&self, error: redis::RedisError, generation: u64) -> Fault {
        if breaks_connection(&error) {
            let mut current = self.current.lock().await;
            if current.generation == generation {
                current.connection = None;
            }
        }
        Fault::from(error)
    }
}

/// Connections for blocking commands, one for each that waits at the same time. When a command is
/// cancelled its connection is closed, so that no other command queues behind it.
pub(super) struct BlockingLinks {
    dialer: Dialer,
    idle: Mutex<Vec<MultiplexedConnection>>,
}

impl BlockingLinks {
    pub fn new(url: &str, files: &RedisTls) -> Result<Self, LogError> {
        Ok(Self { dialer: Dialer::new(url, files)?, idle: Mutex::default() })
    }

    /// Sends one command that may block for `wait`.
    pub async fn query(&self, command: &Cmd, wait: Duration) -> Result<Value, Fault> {
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.dialer.dial(None).await?,
        };
        match timeout(wait + ANSWER_TIMEOUT, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.idle().push(connection);
                Ok(answer)
            }
            Ok(Err(error)) if breaks_connection(&error) => {
                // The other idle connections are most likely broken too.
                self.idle().clear();
                Err(error.into())
            }
            Ok(Err(error)) => {
                self.idle().push(connection);
                Err(error.into())
            }
            Err(_) => Err(LogError::Unavailable("Redis did not reply to a blocking read".into()).into()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
