//! The system under test: the real publishers and aggregators, each pod with a supervisor that starts it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use axum::Router;
use sluice_aggregator::replica::aggregate;
use sluice_aggregator::replica::consumer::Consumer;
use sluice_aggregator::replica::failover::Failover;
use sluice_event::Keyer;
use sluice_publisher::Publisher;
use sluice_store::CommitOptions;
use tokio_util::sync::CancellationToken;

use crate::log::client::{LogClient, ModelLog};
use crate::process::Process;
use crate::requests::Requests;
use crate::settings::{IDEMPOTENCY_TTL, Settings};
use crate::store::client::StoreClient;
use crate::store::connections::Connections;
use crate::store::server::ModelStore;
use crate::world::{World, lock};

/// Everything that runs in a schedule.
pub struct System {
    /// What all share.
    pub world: Arc<World>,
    /// The settings of the schedule.
    pub settings: Settings,
    /// The log.
    pub log: Arc<ModelLog>,
    /// The store.
    pub store: Arc<ModelStore>,
    /// What the clients sent.
    pub requests: Requests,
    replicas: Vec<Mutex<Option<Replica>>>,
    /// The replicas that do not come back.
    removed: Mutex<BTreeSet<usize>>,
    publishers: Vec<Mutex<Option<RunningPublisher>>>,
    processes: AtomicU32,
    drawn: AtomicUsize,
}

/// A publisher, and the process that it runs in.
pub type RunningPublisher = (Router, Arc<Process>);

/// The process of an aggregator pod.
#[derive(Clone)]
pub struct Replica {
    /// The process.
    pub process: Arc<Process>,
    /// Tells it to stop as SIGTERM does.
    pub stop: CancellationToken,
    /// What it uses of the store.
    pub store: Arc<StoreClient>,
}

impl System {
    /// Creates the system; nothing runs yet.
    pub fn new(world: Arc<World>, settings: Settings) -> Self {
        let store = ModelStore {
            server: Mutex::default(),
            ended: tokio::sync::Notify::new(),
            // Shorter than the claim time, as the sessions' time-outs are in PostgreSQL.
            lock_timeout: settings.claim_after / 4,
            step_timeout: settings.claim_after / 5,
            partition_rows: settings.partition_rows,
            switch_after: settings.switch_after,
            may_pause: settings.may_pause,
        };
        {
            let mut server = lock(&store.server);
            (server.has_pooler, server.planted) = (settings.has_pooler, settings.planted);
            if settings.switch_after.is_zero() {
                server.begin_with_partitions();
            }
        }
        let store = Arc::new(store);
        Self {
            log: Arc::new(ModelLog::new(settings.streams, settings.replay_window, store.clone())),
            store,
            requests: Requests::default(),
            replicas: (0..settings.replicas).map(|_| Mutex::default()).collect(),
            removed: Mutex::default(),
            publishers: (0..settings.publishers).map(|_| Mutex::default()).collect(),
            processes: AtomicU32::new(0),
            drawn: AtomicUsize::new(0),
            world,
            settings,
        }
    }

    /// Starts all pods. They are started again whenever they end.
    pub fn start(self: &Arc<Self>) {
        for number in 0..self.settings.replicas {
            let system = self.clone();
            tokio::spawn(async move {
                while !lock(&system.removed).contains(&number) {
                    system.run_replica(number).await;
                    tokio::time::sleep(system.world.millis_between(1, 500)).await;
                }
            });
        }
        for number in 0..self.settings.publishers {
            let system = self.clone();
            tokio::spawn(async move {
                loop {
                    system.run_publisher(number).await;
                    tokio::time::sleep(system.world.millis_between(1, 500)).await;
                }
            });
        }
    }

    /// Draws the next request; `None` once there were enough.
    pub fn next_request(&self) -> Option<usize> {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        (drawn < self.settings.requests).then(|| self.requests.draw(&self.world, &self.settings))
    }

    /// Returns the process of an aggregator pod, if one runs.
    pub fn replica(&self, number: usize) -> Option<Replica> {
        lock(&self.replicas[number]).clone()
    }

    /// Lets a replica not come back, unless it is the last one, and returns its process, if one runs.
    pub fn remove_replica(&self, number: usize) -> Option<Arc<Process>> {
        let mut removed = lock(&self.removed);
        let is_last = removed.len() + 1 == self.settings.replicas;
        let replica = self.replica(number).filter(|_| !is_last)?;
        removed.insert(number);
        Some(replica.process)
    }

    /// Returns a publisher and its process, if one runs.
    pub fn publisher(&self, number: usize) -> Option<RunningPublisher> {
        lock(&self.publishers[number]).clone()
    }

    /// Lets every frozen process go on.
    pub fn thaw_all(&self) {
        let replicas = (0..self.settings.replicas).filter_map(|number| Some(self.replica(number)?.process));
        let publishers = (0..self.settings.publishers).filter_map(|number| Some(self.publisher(number)?.1));
        replicas.chain(publishers).for_each(|process| process.thaw());
    }

    fn new_process(&self, pod: &str) -> Arc<Process> {
        let process = Arc::new(Process::new(pod, self.processes.fetch_add(1, Ordering::Relaxed)));
        self.world.note(&process.label, || "starts".into());
        process
    }

    async fn run_replica(self: &Arc<Self>, number: usize) {
        let process = self.new_process(&format!("aggregator-{number}"));
        let (stop, store) = (CancellationToken::new(), self.new_store(&process));
        let replica = Replica { process: process.clone(), stop: stop.clone(), store: store.clone() };
        *lock(&self.replicas[number]) = Some(replica);
        self.run_process(number, &process, store, stop).await;
        *lock(&self.replicas[number]) = None;
    }

    /// Runs a second process under the name of an aggregator pod, until `end`.
    pub async fn run_double(self: &Arc<Self>, number: usize, end: impl Future<Output = ()>) {
        let process = self.new_process(&format!("aggregator-{number}"));
        let ends = async {
            end.await;
            process.kill();
        };
        let store = self.new_store(&process);
        tokio::join!(self.run_process(number, &process, store, CancellationToken::new()), ends);
    }

    fn new_store(&self, process: &Arc<Process>) -> Arc<StoreClient> {
        let Settings { planted, cache_keys, filter_memory, .. } = self.settings;
        let connections = Connections::new(self.world.clone(), process.clone(), self.store.clone(), planted);
        Arc::new(StoreClient::new(connections, cache_keys, filter_memory))
    }

    /// Runs the real aggregator until it is killed or stops.
    async fn run_process(
        self: &Arc<Self>,
        number: usize,
        process: &Arc<Process>,
        store: Arc<StoreClient>,
        stop: CancellationToken,
    ) {
        let Settings { planted, limits, claim_after, replica, audit, .. } = &self.settings;
        let name = format!("aggregator-{number}");
        let (world, planted) = (self.world.clone(), *planted);
        let log = Arc::new(LogClient::new(world.clone(), process.clone(), self.log.clone(), &name, planted));
        let failover = Failover::new(log.clone(), store.clone(), self.settings.replay_window, IDEMPOTENCY_TTL);
        let options = CommitOptions { keyer: Keyer::default(), shard: name, audit: *audit, numbering: None };
        let consumer = Consumer::new(log, store, options, *limits, *claim_after).with_failover(Arc::new(failover));
        let ended = tokio::select! {
            biased;
            () = process.died() => "was killed".to_owned(),
            ended = aggregate(Arc::new(consumer), *replica, stop) => match ended {
                Ok(()) => "stopped".to_owned(),
                Err(error) if error.is::<tokio::task::JoinError>() => {
                    world.violation(format!("{}: a task panicked: {error}", process.label));
                    "panicked".to_owned()
                }
                Err(error) => format!("stopped: {error}"),
            },
        };
        world.note(&process.label, || ended);
        process.kill();
    }

    /// Runs the real publisher until it is killed.
    async fn run_publisher(self: &Arc<Self>, number: usize) {
        let process = self.new_process(&format!("publisher-{number}"));
        let (world, planted) = (self.world.clone(), self.settings.planted);
        let log = LogClient::new(world.clone(), process.clone(), self.log.clone(), "", planted);
        let router =
            sluice_publisher::router(Publisher::start(Arc::new(log), &self.settings.ingest, &Keyer::default(), None));
        *lock(&self.publishers[number]) = Some((router, process.clone()));
        process.died().await;
        world.note(&process.label, || "was killed".into());
        *lock(&self.publishers[number]) = None;
    }
}
