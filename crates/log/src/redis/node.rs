//! The connections to one server: one that all commands share, and others that one task at a time has for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::timeout;

use super::dial::Dialer;
use super::durability::{self, Promises};
use super::error::{breaks_connection, unexpected};
use super::open::CONNECT_TIMEOUT;
use super::role::check_primary;
use crate::LogError;

pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is sent in one step.
pub(super) enum Request<'a> {
    /// One command.
    Command(&'a Cmd),
    /// Several commands; the answer is the array of theirs.
    Pipeline(&'a Pipeline),
    /// The call of a script by its hash, and its source, which is loaded if the server does not have it.
    Script(&'a Cmd, &'static str),
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection could be opened.
    Connect(LogError),
    /// The server refused the request, or the connection broke.
    Request(RedisError),
    /// The server did not answer.
    Silent,
}

/// The connections to one server.
pub(super) struct Node {
    /// Distinguishes the nodes of a cluster.
    name: String,
    host: String,
    dialer: Dialer,
    promises: Arc<Promises>,
    shared: tokio::sync::Mutex<Shared>,
    /// Connections for sessions that are not in use.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: MultiplexedConnection,
    id: Option<i64>,
    has_no_waitaof: bool,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    generation: u64,
}

impl Node {
    pub fn new(name: String, host: String, dialer: Dialer, promises: Arc<Promises>) -> Self {
        Self { name, host, dialer, promises, shared: tokio::sync::Mutex::default(), idle: Mutex::default() }
    }

    /// Returns the host and the port; empty if there are no other nodes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the number of shared connections opened so far, and opens one if there is none.
    pub async fn generation(&self) -> Result<u64, Failure> {
        self.connected().await.map(|(_, generation)| generation)
    }

    /// Looks again at what the server promises, and whether it is the primary. Its settings can be changed while it runs,
    /// and a server that is demoted does not say so to a client that only reads.
    pub async fn check(&self) -> Result<(), Failure> {
        let (mut connection, generation) = self.connected().await?;
        if let Err(error) = check_primary(&mut connection).await {
            self.leave(generation).await;
            return Err(Failure::Connect(error));
        }
        self.promises.record(&self.name, durability::check(&mut connection).await.map_err(Failure::Connect)?);
        Ok(())
    }

    /// Sends a request on the shared connection.
    pub async fn send(&self, request: &Request<'_>) -> Result<Value, Failure> {
        let (mut connection, generation) = self.connected().await?;
        match request.send(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if breaks_connection(&error) {
                    self.leave(generation).await;
                }
                Err(Failure::Request(error))
            }
        }
    }

    /// Returns a connection for one task alone.
    pub async fn session(self: &Arc<Self>) -> Result<Session, Failure> {
        let idle = self.idle().pop();
        let Idle { connection, id, has_no_waitaof } = match idle {
            Some(idle) => idle,
            None => {
                let connection = self.dialer.dial(None).await.map_err(Failure::Connect)?;
                Idle { connection, id: None, has_no_waitaof: false }
            }
        };
        Ok(Session { node: self.clone(), connection, id, has_no_waitaof })
    }

    async fn connected(&self) -> Result<(MultiplexedConnection, u64), Failure> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &shared.connection {
            return Ok((connection.clone(), shared.generation));
        }
        let mut connection = self.dialer.dial(Some(ANSWER_TIMEOUT)).await.map_err(Failure::Connect)?;
        // An error says nothing about the server; the command for which the connection was opened will report it.
        if let Ok(Ok(found)) = timeout(CONNECT_TIMEOUT, durability::check(&mut connection)).await {
            self.promises.record(&self.name, found);
        }
        shared.generation += 1;
        shared.connection = Some(connection.clone());
        Ok((connection, shared.generation))
    }

    /// Does not use the connection of this generation any more, nor those that are idle: they are to the same server.
    async fn leave(&self, generation: u64) {
        let mut shared = self.shared.lock().await;
        if shared.generation == generation {
            shared.connection = None;
            self.idle().clear();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that one task has for itself, so that a command that waits in the server holds up no other one. It is
/// closed when it is dropped, with what the server still does for it; [`Session::end`] keeps it for the next task.
pub(super) struct Session {
    node: Arc<Node>,
    connection: MultiplexedConnection,
    /// Whether the server of this connection cannot wait for disks ([`super::replicas`]).
    pub has_no_waitaof: bool,
    id: Option<i64>,
}

impl Session {
    /// Sends a request that may wait in the server for this time.
    pub async fn send(&mut self, request: &Request<'_>, wait: Duration) -> Result<Value, Failure> {
        match timeout(wait + ANSWER_TIMEOUT, request.send(&mut self.connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if breaks_connection(&error) {
                    // The other connections are most likely broken too, or are to a server that is a replica now.
                    let generation = self.node.shared.lock().await.generation;
                    self.node.leave(generation).await;
                }
                Err(Failure::Request(error))
            }
            Err(_) => Err(Failure::Silent),
        }
    }

    /// Returns the number by which the server knows the connection.
    pub async fn id(&mut self) -> Result<i64, Failure> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let command = redis::cmd("CLIENT").arg("ID").to_owned();
        let answer = self.send(&Request::Command(&command), Duration::ZERO).await?;
        let Value::Int(id) = answer else { return Err(Failure::Connect(unexpected("CLIENT ID"))) };
        self.id = Some(id);
        Ok(id)
    }

    /// Returns the server of the connection.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Keeps the connection, on which nothing is outstanding.
    pub fn end(self) {
        let Self { node, connection, id, has_no_waitaof } = self;
        node.idle().push(Idle { connection, id, has_no_waitaof });
    }
}

impl Request<'_> {
    /// Sends it.
    pub async fn send(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(commands) => Ok(Value::Array(commands.query_async(connection).await?)),
            Self::Script(call, code) => match call.query_async(connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    redis::cmd("SCRIPT").arg("LOAD").arg(code).query_async::<Value>(connection).await?;
                    call.query_async(connection).await
                }
                other => other,
            },
        }
    }
}
