//! The connections of a log: opened at the first use, and opened again, with backoff, after an error.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, Value, from_redis_value};
use sluice_service::durability::Durability;
use sluice_service::encryption::{Encryption, Transport};

use super::address::{Address, Topology};
use super::dial::{Dialer, Place};
use super::durability::Promises;
use super::error::{Fault, unexpected};
use super::node::{Failure, Node, Request, Session};
use super::sentinel::Sentinels;
use super::settings::SentinelLogin;
use super::tls::{self, RedisTls};
use crate::LogError;

/// The connections to the primary.
pub(super) struct Link {
    node: Arc<Node>,
    promises: Arc<Promises>,
    encryption: Encryption,
}

impl Link {
    pub fn new(url: &str, files: &RedisTls, sentinel: &SentinelLogin) -> Result<Self, LogError> {
        let unusable = |error| LogError::Failed(format!("the Redis URL is not usable: {error}"));
        let address = Address::parse(url).map_err(unusable)?;
        let (promises, encryption) = (Arc::new(Promises::new()), Encryption::of("Redis"));
        // The URL decides whether there is TLS: a server cannot change it.
        let transports: Vec<_> = address.hosts.iter().map(tls::transport).collect();
        encryption.record(*transports.iter().find(|&&found| found == Transport::Plain).unwrap_or(&transports[0]));
        let place = match &address.topology {
            Topology::Single => Place::Server(address.hosts[0].clone()),
            Topology::Sentinel { name } => Place::Sentinels(Sentinels::new(name, &address, sentinel)),
            Topology::Cluster => return Err(unusable("a cluster is not supported".into())),
        };
        let dialer = Dialer::new(place, files, &encryption);
        Ok(Self { node: Arc::new(Node::new(String::new(), dialer, promises.clone())), promises, encryption })
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> &Durability {
        self.promises.all()
    }

    /// Looks again at what the server promises, and whether it is still the primary.
    pub async fn check_server(&self) -> Result<(), LogError> {
        Ok(self.node.check().await.map_err(Fault::from)?)
    }

    /// Returns the number of connections opened so far, and opens one if there is none. State that was set
    /// up on the server in another generation may be lost.
    pub async fn generation(&self) -> Result<u64, LogError> {
        Ok(self.node.generation().await.map_err(Fault::from)?)
    }

    /// Sends one command.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        decode(self.send(&Request::Command(command)).await?)
    }

    /// Calls a script, which is loaded if the server does not have it.
    pub async fn script<T: FromRedisValue>(&self, call: &Cmd, code: &'static str) -> Result<T, Fault> {
        decode(self.send(&Request::Script(call, code)).await?)
    }

    /// Sends commands in one step.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        decode(self.send(&Request::Pipeline(commands)).await?)
    }

    /// Sends a request on the connection that all share.
    pub async fn send(&self, request: &Request<'_>) -> Result<Value, Fault> {
        Ok(self.node.send(request).await?)
    }

    /// Returns a connection for one task alone.
    pub async fn session(&self) -> Result<Session, Fault> {
        Ok(self.node.session().await?)
    }
}

fn decode<T: FromRedisValue>(answer: Value) -> Result<T, Fault> {
    Ok(from_redis_value(answer).map_err(|_| unexpected("a command"))?)
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect(error) => Self::Log(error),
            Failure::Request(error) => error.into(),
            Failure::Silent => Self::Log(LogError::Unavailable("Redis does not answer".into())),
        }
    }
}
