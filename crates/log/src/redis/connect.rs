//! The connections of a log: opened at the first use, and opened again, with backoff, after an error.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use sluice_service::durability::Durability;
use sluice_service::encryption::{Encryption, Transport};
use tokio::time::timeout;

use super::address::{Address, Topology};
use super::dial::{Dialer, Place};
use super::durability;
use super::error::{Fault, breaks_connection};
use super::open::CONNECT_TIMEOUT;
use super::role::check_primary;
use super::sentinel::Sentinels;
use super::settings::SentinelLogin;
use super::tls::{self, RedisTls};
use crate::LogError;

pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to the primary: one that all commands share, except those that block, and one for each command
/// that blocks at the same time.
pub(super) struct Link {
    dialer: Dialer,
    durability: Durability,
    encryption: Encryption,
    current: tokio::sync::Mutex<Current>,
    /// Connections for blocking commands that are not in use. When a command is cancelled its connection is closed, so
    /// that no other command queues behind it.
    idle: Mutex<Vec<MultiplexedConnection>>,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    generation: u64,
}

impl Link {
    pub fn new(url: &str, files: &RedisTls, sentinel: &SentinelLogin) -> Result<Self, LogError> {
        let unusable = |error| LogError::Failed(format!("the Redis URL is not usable: {error}"));
        let address = Address::parse(url).map_err(unusable)?;
        let (durability, encryption) = (Durability::of("Redis"), Encryption::of("Redis"));
        // The URL decides whether there is TLS: a server cannot change it.
        let transports: Vec<_> = address.hosts.iter().map(tls::transport).collect();
        encryption.record(*transports.iter().find(|&&found| found == Transport::Plain).unwrap_or(&transports[0]));
        let place = match &address.topology {
            Topology::Single => Place::Server(address.hosts[0].clone()),
            Topology::Sentinel { name } => Place::Sentinels(Sentinels::new(name, &address, sentinel)),
            Topology::Cluster => return Err(unusable("a cluster is not supported".into())),
        };
        let dialer = Dialer::new(place, files, &encryption);
        Ok(Self { dialer, durability, encryption, current: tokio::sync::Mutex::default(), idle: Mutex::default() })
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Looks again at what the server promises, and whether it is still the primary. Its settings can be changed while
    /// it runs, and a server that is demoted does not say so to a client that only reads.
    pub async fn check_server(&self) -> Result<(), LogError> {
        let (mut connection, generation) = self.connected().await?;
        if let Err(error) = check_primary(&mut connection).await {
            self.leave(generation).await;
            return Err(error);
        }
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

    /// Sends one command that may block for `wait`, on a connection of its own.
    pub async fn query_blocking(&self, command: &Cmd, wait: Duration) -> Result<Value, Fault> {
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
                // The other connections are most likely broken too, or are to a server that is a replica now.
                let generation = self.current.lock().await.generation;
                self.leave(generation).await;
                Err(error.into())
            }
            Ok(Err(error)) => {
                self.idle().push(connection);
                Err(error.into())
            }
            Err(_) => Err(LogError::Unavailable("Redis did not reply to a blocking read".into()).into()),
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
            self.leave(generation).await;
        }
        Fault::from(error)
    }

    /// Does not use the connection of this generation any more, nor those that are idle: they are to the same server.
    async fn leave(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            current.connection = None;
            self.idle().clear();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
