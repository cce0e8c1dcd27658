//! The connections of a log: opened at the first use, and opened again, with backoff, after an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use redis::{Cmd, FromRedisValue, Pipeline, Value, from_redis_value};
use sluice_service::durability::Durability;
use sluice_service::encryption::{Encryption, Transport};

use super::address::{Address, SentinelLogin, Topology};
use super::cluster::{Cluster, slot_of};
use super::dial::{Dialer, Place};
use super::durability::Promises;
use super::error::{Fault, unexpected};
use super::keys::{Prefix, StreamKeys};
use super::node::{Failure, Node, Request, Session};
use super::redirect::Redirect;
use super::sentinel::Sentinels;
use super::slots::slot;
use super::tls::{self, RedisTls};
use crate::LogError;

/// The connections to the primary, or to the nodes of a cluster. Each request goes to the owner of its keys.
pub(super) struct Link {
    servers: Servers,
    promises: Arc<Promises>,
    encryption: Encryption,
}

enum Servers {
    /// The primary.
    One(Arc<Node>),
    /// The owners of the slots.
    Cluster(Arc<Cluster>),
}

/// What a server tells of its memory.
pub(super) struct NodeMemory {
    /// Its answer to INFO.
    pub info: String,
    /// The number of streams on it, of those that were asked for.
    pub streams: u16,
}

impl Link {
    pub fn new(url: &str, files: &RedisTls, sentinel: &SentinelLogin) -> Result<Self, LogError> {
        let address = Address::parse(url);
        let address = address.map_err(|error| LogError::Failed(format!("the Redis URL is not usable: {error}")))?;
        let (promises, encryption) = (Arc::new(Promises::new()), Encryption::of("Redis"));
        // The URL decides whether there is TLS: a server cannot change it.
        let transports: Vec<_> = address.hosts.iter().map(tls::transport).collect();
        encryption.record(*transports.iter().find(|&&found| found == Transport::Plain).unwrap_or(&transports[0]));
        let one = |place| {
            let dialer = Dialer::new(place, files, &encryption);
            Servers::One(Arc::new(Node::new(String::new(), String::new(), dialer, promises.clone())))
        };
        let servers = match &address.topology {
            Topology::Single => one(Place::Server(address.hosts[0].clone())),
            Topology::Sentinel { name } => one(Place::Sentinels(Sentinels::new(name, &address, sentinel))),
            Topology::Cluster => Servers::Cluster(Arc::new(Cluster::new(address, files, &encryption, &promises))),
        };
        Ok(Self { servers, promises, encryption })
    }

    /// Returns whether connections are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Returns what the server promises, as it was last found.
    pub fn durability(&self) -> &Durability {
        self.promises.all()
    }

    /// Whether the streams are spread over the nodes of a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// Returns the prefix of the keys.
    pub fn prefix(&self, text: &str) -> Prefix {
        Prefix::new(text, self.is_cluster())
    }

    /// Looks again at what the server promises, and whether it is still the primary.
    pub async fn check_server(&self) -> Result<(), LogError> {
        match &self.servers {
            Servers::One(node) => Ok(node.check().await.map_err(Fault::from)?),
            Servers::Cluster(cluster) => {
                let checks = cluster.used().into_iter().map(|node| async move {
                    // Where its slots are now is found by the next request.
                    node.check().await.inspect_err(|failure| drop(cluster.learn(0, &node, failure)))
                });
                Ok(try_join_all(checks).await.map(drop).map_err(Fault::from)?)
            }
        }
    }

    /// Returns a number that changes when state that was set up on the server may be lost: with each connection, which is
    /// opened if there is none, and when slots of a cluster have other owners.
    pub async fn generation(&self) -> Result<u64, LogError> {
        match &self.servers {
            Servers::One(node) => Ok(node.generation().await.map_err(Fault::from)?),
            Servers::Cluster(cluster) => Ok(cluster.version()),
        }
    }

    /// Checks that the server answers, or all nodes of a cluster that were used.
    pub async fn ping(&self) -> Result<(), Fault> {
        let nodes = match &self.servers {
            Servers::One(node) => vec![node.clone()],
            Servers::Cluster(cluster) => match cluster.used() {
                // It finds out whether there is a cluster at all.
                nodes if nodes.is_empty() => vec![cluster.owner(0).await?],
                nodes => nodes,
            },
        };
        let ping = redis::cmd("PING");
        for node in nodes {
            if let Err(failure) = node.send(&Request::Command(&ping)).await {
                self.learn(0, &node, &failure);
                return Err(failure.into());
            }
        }
        Ok(())
    }

    /// Returns what the servers of these streams tell of their memory.
    pub async fn memory_of(&self, streams: &[StreamKeys]) -> Result<Vec<NodeMemory>, Fault> {
        let mut nodes: Vec<(Arc<Node>, u16)> = Vec::new();
        for keys in streams {
            let owner = self.owner(slot_if(self.is_cluster(), keys)).await?;
            match nodes.iter_mut().find(|(node, _)| Arc::ptr_eq(node, &owner)) {
                Some((_, streams)) => *streams += 1,
                None => nodes.push((owner, 1)),
            }
        }
        let command = redis::cmd("INFO").arg("memory").to_owned();
        let asked = nodes.into_iter().map(|(node, streams)| {
            let command = &command;
            async move {
                let answer = node.send(&Request::Command(command)).await;
                let answer = answer.inspect_err(|failure| self.learn(0, &node, failure))?;
                Ok::<_, Fault>(NodeMemory { info: decode(answer)?, streams })
            }
        });
        try_join_all(asked).await
    }

    /// Sends one command.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        decode(self.send(&Request::Command(command)).await?)
    }

    /// Calls a script, which is loaded if the server does not have it.
    pub async fn script<T: FromRedisValue>(&self, call: &Cmd, code: &'static str) -> Result<T, Fault> {
        decode(self.send(&Request::Script(call, code)).await?)
    }

    /// Sends commands in one step. On a cluster, those of each slot are one step.
    pub async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        if self.is_cluster() && !commands.is_transaction() {
            return self.pipelines(commands).await;
        }
        decode(self.send(&Request::Pipeline(commands)).await?)
    }

    /// Sends commands to the owners of their slots, and returns their answers in order.
    async fn pipelines(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        let mut by_slot: BTreeMap<Option<u16>, (Vec<usize>, Pipeline)> = BTreeMap::new();
        for (index, command) in commands.cmd_iter().enumerate() {
            let (indexes, pipeline) = by_slot.entry(slot_of(command)).or_default();
            indexes.push(index);
            pipeline.add_command(command.clone());
        }
        let sent = by_slot.into_values().map(|(indexes, pipeline)| async move {
            let answers: Vec<Value> = decode(self.send(&Request::Pipeline(&pipeline)).await?)?;
            Ok::<_, Fault>(indexes.into_iter().zip(answers).collect::<Vec<_>>())
        });
        let mut answers: Vec<_> = try_join_all(sent).await?.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Sends a request on the connection that all share.
    pub async fn send(&self, request: &Request<'_>) -> Result<Value, Fault> {
        match &self.servers {
            Servers::One(node) => node.send(request).await.map_err(of_one_server),
            Servers::Cluster(cluster) => {
                let command = match request {
                    Request::Command(command) | Request::Script(command, _) => Some(*command),
                    Request::Pipeline(commands) => commands.cmd_iter().next(),
                };
                Ok(cluster.send(command.and_then(slot_of).unwrap_or(0), request).await?)
            }
        }
    }

    /// Returns a connection for one task alone, to the owner of a stream.
    pub async fn session(&self, keys: &StreamKeys) -> Result<LinkSession<'_>, Fault> {
        let slot = slot_if(self.is_cluster(), keys);
        let node = self.owner(slot).await?;
        let session = node.session().await.inspect_err(|failure| self.learn(slot, &node, failure))?;
        Ok(LinkSession { link: self, slot, session })
    }

    async fn owner(&self, slot: u16) -> Result<Arc<Node>, Failure> {
        match &self.servers {
            Servers::One(node) => Ok(node.clone()),
            Servers::Cluster(cluster) => cluster.owner(slot).await,
        }
    }

    /// Notes that a slot may have another owner. The next request finds it.
    fn learn(&self, slot: u16, node: &Node, failure: &Failure) {
        if let Servers::Cluster(cluster) = &self.servers {
            cluster.learn(slot, node, failure);
        }
    }
}

/// A connection to the owner of a stream that one task has for itself ([`Session`]).
pub(super) struct LinkSession<'a> {
    link: &'a Link,
    slot: u16,
    pub session: Session,
}

impl LinkSession<'_> {
    /// Sends a request that may wait in the server for this time.
    pub async fn send(&mut self, request: &Request<'_>, wait: Duration) -> Result<Value, Fault> {
        let answer = self.session.send(request, wait).await;
        Ok(answer.inspect_err(|failure| self.link.learn(self.slot, self.session.node(), failure))?)
    }

    /// Keeps the connection, on which nothing is outstanding.
    pub fn end(self) {
        self.session.end();
    }
}

/// Returns the slot of a stream, which one server does not have.
fn slot_if(is_cluster: bool, keys: &StreamKeys) -> u16 {
    if is_cluster { slot(keys.stream.as_bytes()) } else { 0 }
}

/// Explains the answer of a node of a cluster that was taken for the only server.
fn of_one_server(failure: Failure) -> Fault {
    match &failure {
        Failure::Request(error) if Redirect::of(error).is_some() => LogError::Unavailable(format!(
            "{error} (Redis is a cluster: --redis-url must begin with redis+cluster:// or rediss+cluster://)"
        ))
        .into(),
        _ => failure.into(),
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
