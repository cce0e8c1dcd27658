//! The nodes of a cluster: each request goes to the owner of its slot, which is found again when it changes.
//!
//! The cluster client of the library is not used: it has no connection of which one task alone disposes, which a read
//! that waits and a wait for replicas need, and it repeats requests by itself, also after an answer was lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, Value};
use sluice_service::backoff::Backoff;
use sluice_service::encryption::Encryption;
use tokio::time::sleep;

use super::address::{Address, name};
use super::dial::{Dialer, Place};
use super::durability::Promises;
use super::error::breaks_connection;
use super::node::{ANSWER_TIMEOUT, Failure, Node, Request};
use super::open::{CONNECT_TIMEOUT, open};
use super::redirect::Redirect;
use super::slot_map::{NodeAddress, SlotMap};
use super::tls::{self, RedisTls};
use crate::LogError;

/// The map is not asked for more often, however many requests fail.
const MIN_REFRESH: Duration = Duration::from_millis(100);
/// How long a request is redirected before its error is returned. Moving a slot takes milliseconds, unless its stream is
/// large.
const REDIRECTED: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// The nodes of a cluster.
pub(super) struct Cluster {
    address: Address,
    files: RedisTls,
    encryption: Encryption,
    promises: Arc<Promises>,
    state: Mutex<State>,
    /// Whether the map may be old: a node has failed since.
    is_stale: AtomicBool,
    version: AtomicU64,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    map: Option<SlotMap>,
    nodes: HashMap<NodeAddress, Arc<Node>>,
}

impl Cluster {
    pub fn new(address: Address, files: &RedisTls, encryption: &Encryption, promises: &Arc<Promises>) -> Self {
        Self {
            address,
            files: files.clone(),
            encryption: encryption.clone(),
            promises: promises.clone(),
            state: Mutex::default(),
            is_stale: AtomicBool::new(false),
            version: AtomicU64::new(0),
            refreshed: tokio::sync::Mutex::default(),
        }
    }

    /// Returns a number that changes whenever slots have, or may have, other owners.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Returns the node that owns a slot.
    pub async fn owner(&self, slot: u16) -> Result<Arc<Node>, Failure> {
        if !self.is_stale.load(Ordering::Relaxed)
            && let Some(node) = self.known_owner(slot)
        {
            return Ok(node);
        }
        self.refresh(slot).await?;
        let none = || LogError::Unavailable(format!("no node of the cluster owns slot {slot}"));
        self.known_owner(slot).ok_or_else(|| Failure::Connect(none()))
    }

    /// Returns the nodes that were used so far.
    pub fn used(&self) -> Vec<Arc<Node>> {
        self.state().nodes.values().cloned().collect()
    }

    /// Sends a request to the owner of a slot, and to where it is redirected.
    pub async fn send(&self, slot: u16, request: &Request<'_>) -> Result<Value, Failure> {
        let started = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        loop {
            let node = self.owner(slot).await?;
            let failure = match node.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let failure = match self.learn(slot, &node, &failure) {
                None => return Err(failure),
                Some(Redirect::Ask(host, port)) => match self.ask(&host, port, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Request(error)) if Redirect::of(&error).is_some() => Failure::Request(error),
                    Err(failure) => return Err(failure),
                },
                Some(_) => failure,
            };
            if started.elapsed() > REDIRECTED {
                return Err(failure);
            }
            sleep(backoff.next()).await;
        }
    }

    /// Learns from the failure of a request where the slot is now, or that it may be elsewhere. Returns where to send
    /// the request instead.
    pub fn learn(&self, slot: u16, node: &Node, failure: &Failure) -> Option<Redirect> {
        let Failure::Request(error) = failure else {
            self.is_stale.store(true, Ordering::Relaxed);
            return None;
        };
        let redirect = Redirect::of(error);
        match &redirect {
            Some(Redirect::Moved(host, port)) => {
                let host = if host.is_empty() { node.host() } else { host };
                self.moved(slot, (host.to_owned(), *port));
            }
            Some(_) => {}
            None if breaks_connection(error) || error.code() == Some("CLUSTERDOWN") => {
                self.is_stale.store(true, Ordering::Relaxed);
            }
            None => {}
        }
        redirect
    }

    fn moved(&self, slot: u16, owner: NodeAddress) {
        let mut state = self.state();
        if let Some(map) = &mut state.map
            && map.owner(slot) != Some(&owner)
        {
            tracing::info!(slot, node = format!("{}:{}", owner.0, owner.1), "a slot of Redis has been moved");
            map.set(slot, owner);
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends one request to the node to which its slot is being moved.
    async fn ask(&self, host: &str, port: u16, request: &Request<'_>) -> Result<Value, Failure> {
        let info = self.address.server(host, port);
        // On a connection of its own: what another task sends must not come between the two.
        let opened = open(&info, &self.files, CONNECT_TIMEOUT, Some(ANSWER_TIMEOUT)).await;
        let mut connection = opened.map_err(Failure::Connect)?;
        let asked = async {
            if let Request::Script(_, code) = request {
                redis::cmd("SCRIPT").arg("LOAD").arg(code).query_async::<Value>(&mut connection).await?;
            }
            redis::cmd("ASKING").query_async::<Value>(&mut connection).await?;
            request.send(&mut connection).await
        };
        asked.await.map_err(|error: RedisError| Failure::Request(error))
    }

    fn known_owner(&self, slot: u16) -> Option<Arc<Node>> {
        let mut state = self.state();
        let owner = state.map.as_ref()?.owner(slot)?.clone();
        let node = state.nodes.entry(owner).or_insert_with_key(|(host, port)| {
            let info = self.address.server(host, *port);
            self.encryption.record(tls::transport(&info));
            let name = name(&info);
            let dialer = Dialer::new(Place::Server(info), &self.files, &self.encryption);
            Arc::new(Node::new(name, host.clone(), dialer, self.promises.clone()))
        });
        Some(node.clone())
    }

    /// Asks one of the nodes for the owners of all slots.
    async fn refresh(&self, slot: u16) -> Result<(), Failure> {
        let mut refreshed = self.refreshed.lock().await;
        let is_known = self.known_owner(slot).is_some();
        if is_known && !self.is_stale.load(Ordering::Relaxed) {
            return Ok(());
        }
        if refreshed.is_some_and(|at| at.elapsed() < MIN_REFRESH) {
            // What is known is tried again, because a failure may be over.
            return if is_known { Ok(()) } else { Err(Failure::Connect(self.unknown("it was asked a moment ago"))) };
        }
        // The time before it: what is learned meanwhile is newer than the answer.
        *refreshed = Some(Instant::now());
        let mut reasons = Vec::new();
        for (host, port) in self.candidates() {
            let info = self.address.server(&host, port);
            match SlotMap::fetch(&info, &host, &self.files).await {
                Ok(map) => {
                    self.replace(map);
                    return Ok(());
                }
                Err(error @ LogError::Unauthenticated(_)) => return Err(Failure::Connect(error)),
                Err(error) => reasons.push(format!("{}: {error}", name(&info))),
            }
        }
        if is_known { Ok(()) } else { Err(Failure::Connect(self.unknown(&reasons.join("; ")))) }
    }

    fn unknown(&self, reason: &str) -> LogError {
        LogError::Unavailable(format!("the nodes of the cluster are not known: {reason}"))
    }

    /// Returns the nodes that may know the map: those in it, beginning with any of them, because the first may be the
    /// one that has failed, and those of the URL.
    fn candidates(&self) -> Vec<NodeAddress> {
        let state = self.state();
        let mut candidates: Vec<NodeAddress> = state.map.iter().flat_map(SlotMap::nodes).cloned().collect();
        if !candidates.is_empty() {
            let first = rand::random_range(0..candidates.len());
            candidates.rotate_left(first);
        }
        for host in self.address.host_names() {
            if !candidates.contains(&host) {
                candidates.push(host);
            }
        }
        candidates
    }

    fn replace(&self, map: SlotMap) {
        let mut state = self.state();
        self.is_stale.store(false, Ordering::Relaxed);
        if state.map.as_ref() == Some(&map) {
            return;
        }
        let owners: std::collections::HashSet<NodeAddress> = map.nodes().into_iter().cloned().collect();
        tracing::info!(nodes = owners.len(), "the nodes of the cluster of Redis own other slots than before");
        state.nodes.retain(|node, _| owners.contains(node));
        let names: Vec<String> = state.nodes.values().map(|node| node.name().to_owned()).collect();
        self.promises.retain(|node| names.iter().any(|name| name == node));
        state.map = Some(map);
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the slot of a command: that of its first key. All keys of a command are in one slot.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| match word {
        redis::Arg::Simple(word) => word,
        _ => b"0",
    });
    let key = match words.next()? {
        // The hash of the script and the number of keys come before it.
        b"EVALSHA" => words.nth(2),
        b"XREADGROUP" => words.find(|word| *word == b"STREAMS").and_then(|_| words.next()),
        // A subcommand comes before it.
        b"XINFO" | b"MEMORY" => words.nth(1),
        _ => words.next(),
    };
    key.map(super::slots::slot)
}
