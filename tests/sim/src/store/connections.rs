//! The connections of one process to the model store: those for commits, as the real store keeps them, and those for
//! everything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_store::StoreError;

use super::server::{ModelStore, StoreServer};
use crate::planted::Planted;
use crate::process::Process;
use crate::wire;
use crate::world::{Clock, Link, World, lock};

/// A connection that was idle for longer is tested before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
/// Bits of a generation that hold the number of removals.
const REMOVAL_BITS: u32 = 36;

/// What all connections of a process share.
pub struct Connections {
    /// What all processes share.
    pub world: Arc<World>,
    /// The process.
    pub process: Arc<Process>,
    /// The store.
    pub store: Arc<ModelStore>,
    planted: Option<Planted>,
    /// The connections for commits that are not in use.
    idle: Mutex<Vec<Connection>>,
    /// How many of them were lost.
    lost: AtomicU64,
    /// The server that the other connections lead to.
    others: AtomicU64,
    /// The number of removals that was read last, and how many were noticed.
    removals: Mutex<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    /// How many connections were lost when it was opened.
    opened: u64,
    /// The server that it leads to.
    server: u64,
    /// Whether this server was compared with the log.
    is_compared: bool,
    /// Since when it is idle.
    since: Duration,
}

/// A connection in use. It is lost unless it is given back.
pub struct Lease {
    connections: Arc<Connections>,
    connection: Connection,
    is_given_back: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.connections.distrust();
        }
    }
}

impl Lease {
    /// Returns the server that it leads to.
    pub fn server(&self) -> u64 {
        self.connection.server
    }

    /// Returns whether its server was compared with the log.
    pub fn is_compared(&self) -> bool {
        self.connection.is_compared
    }

    /// Notes that it was.
    pub fn set_compared(&mut self) {
        self.connection.is_compared = true;
    }

    /// Returns whether no connection was lost since it was opened.
    pub fn is_current(&self) -> bool {
        self.connection.opened == self.connections.lost.load(Ordering::Relaxed)
    }

    /// Makes it available to others.
    pub fn give_back(mut self) {
        self.is_given_back = true;
        let since = self.connections.world.elapsed();
        lock(&self.connections.idle).push(Connection { since, ..self.connection });
    }

    /// Returns the generation of the dedup cache for a transaction that begins on it.
    pub fn generation(&self) -> u64 {
        let removals = match self.connections.planted {
            Some(Planted::RemovalsAreNotNoticed) => 0,
            _ => lock(&self.connections.store.server).removals,
        };
        let mut seen = lock(&self.connections.removals);
        if seen.0 != removals {
            *seen = (removals, seen.1 + 1);
        }
        match self.connections.planted {
            Some(Planted::CacheOutlivesConnection) => seen.1,
            _ => self.connection.opened << REMOVAL_BITS | seen.1,
        }
    }
}

impl Connections {
    /// Returns the connections of a process; none is open.
    pub fn new(
        world: Arc<World>,
        process: Arc<Process>,
        store: Arc<ModelStore>,
        planted: Option<Planted>,
    ) -> Arc<Self> {
        let others = AtomicU64::new(lock(&store.server).generation);
        let (idle, lost, removals) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { world, process, store, planted, idle, lost, others, removals })
    }

    /// Returns the mistake that is planted, if any.
    pub fn planted(&self) -> Option<Planted> {
        self.planted
    }

    /// Treats all connections for commits as lost.
    pub fn distrust(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a connection for commits: an idle one, or a new one.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, StoreError> {
        self.process.running().await;
        while let Some(connection) = self.pop() {
            if connection.opened != self.lost.load(Ordering::Relaxed) {
                continue;
            }
            let mut lease = Lease { connections: self.clone(), connection, is_given_back: false };
            let server = self.current();
            if self.has_pooler() {
                // The pooler has connected to the other server, and nobody has noticed.
                lease.connection.server = server;
            }
            let is_tested = self.world.elapsed().saturating_sub(connection.since) > PING_AFTER;
            if !is_tested || lease.connection.server == server {
                return Ok(lease);
            }
        }
        // Read first: this connection may reach the server as it was before a loss in the meantime.
        let opened = self.lost.load(Ordering::Relaxed);
        let store = self.store.clone();
        let connected =
            wire::call(&self.world, &self.process, Link::Store, move || lock(&store.server).generation).await;
        let server = connected.map_err(|_| StoreError::Unavailable("connect: no answer".into()))?;
        let connection = Connection { opened, server, is_compared: false, since: Duration::ZERO };
        Ok(Lease { connections: self.clone(), connection, is_given_back: false })
    }

    fn pop(&self) -> Option<Connection> {
        lock(&self.idle).pop()
    }

    fn has_pooler(&self) -> bool {
        lock(&self.store.server).has_pooler
    }

    /// Returns the server that accepts writes.
    pub fn current(&self) -> u64 {
        lock(&self.store.server).generation
    }

    /// Runs a statement, or a transaction of its own, on a connection that is not for commits; `run` is executed by the
    /// server in one step.
    pub async fn ask<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce(&mut StoreServer) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.process.running().await;
        let server = self.current();
        // A connection that was used lately is not tested before it is used.
        let was_there = self.others.swap(server, Ordering::Relaxed) == server;
        if !was_there && !self.has_pooler() && self.world.chance(0.5) {
            return Err(StoreError::Unavailable(format!("{name}: the connection is broken")));
        }
        let answer = self.call(server, run).await;
        answer.ok().flatten().ok_or_else(|| StoreError::Unavailable(format!("{name}: the connection broke")))
    }

    /// Sends a statement to a server; `run` is executed by it in one step. Returns `None` if the server is not the one
    /// that accepts writes any more.
    pub async fn call<T: Send + 'static>(
        &self,
        server: u64,
        run: impl FnOnce(&mut StoreServer) -> T + Send + 'static,
    ) -> Result<Option<T>, wire::Lost> {
        let store = self.store.clone();
        let execute = move || {
            let mut state = lock(&store.server);
            let answer = (state.generation == server).then(|| run(&mut state));
            store.ended.notify_waiters();
            answer
        };
        wire::call(&self.world, &self.process, Link::Store, execute).await
    }

    /// Sends a statement that has no effect before the transaction is committed.
    pub async fn pass(&self, name: &str) -> Result<(), StoreError> {
        if self.world.chance(0.002) {
            return Err(StoreError::Conflict("a serialization failure".into()));
        }
        let passed = wire::call(&self.world, &self.process, Link::Store, || ()).await;
        passed.map_err(|_| StoreError::Unavailable(format!("{name}: the connection broke")))
    }

    /// Fails while the store refuses to write.
    pub fn check_room(&self) -> Result<(), StoreError> {
        if self.world.refuses(Link::Store) {
            return Err(StoreError::Failed("53100: could not extend file: No space left on device".into()));
        }
        Ok(())
    }

    /// Returns the simulated time in milliseconds.
    pub fn now(&self) -> u64 {
        self.world.elapsed().as_millis() as u64
    }

    /// Returns a reading of the store's clock, for what is executed later.
    pub fn clock(&self) -> impl FnOnce() -> u64 + Send + 'static {
        let world = self.world.clone();
        move || world.millis(Clock::Store)
    }

    /// Adds a line to the trace.
    pub fn note(&self, text: impl FnOnce() -> String) {
        self.world.note(&self.process.label, text);
    }
}
