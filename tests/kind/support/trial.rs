//! A resource of its own in a namespace of its own, under load and watch, and the final comparison.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use sluice_tests::store::StoreAddress;
use sluice_tests::stream::StreamReader;
use sluice_tests::wait::holds;
use sluice_tests::{Snapshot, StoreReader, TableLock, Watch, wait_until};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::flow::{Flow, Numbers};
use super::forward::Forward;
use super::load::{Load, Running};
use super::node::{Process, signal};
use super::objects::{Namespace, SOON, event_aggregator};
use super::tally::Tally;
use super::{cluster, dump, install};

/// The resource's name.
pub const NAME: &str = "shop";

/// Written by a test that needs the whole cluster for itself.
static CLUSTER: LazyLock<RwLock<()>> = LazyLock::new(RwLock::default);

/// Written by a test that takes the operator away, read by one that cannot do without it for long.
pub static OPERATOR: LazyLock<RwLock<()>> = LazyLock::new(RwLock::default);

/// Held for its drop alone.
#[allow(dead_code, reason = "a lock is held, not read")]
enum Place {
    /// Within that of another, which outlives it.
    Beside,
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A namespace of the test's own, dumped when the test fails and removed in any case.
pub struct Stage {
    /// It.
    pub namespace: Namespace,
    _place: Place,
}

impl Stage {
    /// A new one beside those of other tests.
    pub async fn shared(name: &str) -> Self {
        Self::make(name, Place::Shared(CLUSTER.read().await)).await
    }

    /// A new one when no other test runs.
    pub async fn alone(name: &str) -> Self {
        Self::make(name, Place::Alone(CLUSTER.write().await)).await
    }

    /// A second one for the same test, which must drop it before this. Not [`Stage::shared`] again: that
    /// would wait behind a test that waits to be alone.
    pub async fn beside(&self, name: &str) -> Self {
        Self::make(name, Place::Beside).await
    }

    async fn make(name: &str, place: Place) -> Self {
        let name = format!("e2e-{name}-{:04x}", rand::random::<u16>());
        let made = name.clone();
        let make = move || {
            install::ensure();
            install::make_namespace(&made, &[&format!("{}: \"true\"", install::LABEL)]);
        };
        tokio::task::spawn_blocking(make).await.expect("a namespace");
        let namespace = Namespace { name, client: cluster::client().await };
        Self { namespace, _place: place }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let name = &self.namespace.name;
        if std::thread::panicking() {
            dump::dump(name);
        }
        if std::env::var_os("SLUICE_TEST_KEEP").is_none() {
            cluster::try_kubectl(&["delete", "namespace", name, "--wait=false"], "");
        }
    }
}

/// A resource whose parts ask for little: several tests share a small machine.
pub fn small(replicas: i32) -> Value {
    let resources = json!({ "requests": { "cpu": "20m", "memory": "32Mi" } });
    json!({
        "aggregator": { "replicas": replicas, "claimAfter": "5s", "consumerTtl": "20s", "resources": resources },
        "publisher": { "replicas": 1, "resources": resources },
        "redis": { "managed": { "memory": "256Mi", "cpu": "20m", "storage": { "size": "1Gi" } } },
        "postgres": { "managed": { "memory": "512Mi", "cpu": "20m", "storage": { "size": "1Gi" } } },
    })
}

/// Creates a resource, which must be accepted.
pub async fn create(namespace: &Namespace, name: &str, spec: Value) {
    let mut resource = DynamicObject::new(name, &event_aggregator());
    resource.data = json!({ "spec": spec });
    namespace.resources().create(&PostParams::default(), &resource).await.expect("the resource is accepted");
}

/// Where the rows are, and the stream with its prefix, behind the ports of Redis and Postgres.
async fn addresses(namespace: &Namespace, [redis, postgres]: &[Forward; 2]) -> (StoreAddress, (String, String)) {
    let of = |part: &str| format!("{NAME}-{part}");
    let redis_password = namespace.secret(&of("redis"), "password").await;
    let postgres_password = namespace.secret(&of("postgres"), "password").await;
    let schema = namespace.variable(&of("aggregator"), "SLUICE_DATABASE_SCHEMA").await;
    let prefix = namespace.variable(&of("aggregator"), "SLUICE_STREAM_PREFIX").await;
    let url = format!("postgres://sluice:{postgres_password}@{}/sluice", postgres.address());
    let stream = (format!("redis://:{redis_password}@{}/0", redis.address()), prefix);
    (StoreAddress::Postgres { url, schema }, stream)
}

/// A system under load and watch.
pub struct Trial {
    /// Where it is.
    pub stage: Stage,
    name: &'static str,
    store: StoreAddress,
    stream: (String, String),
    watch: Option<Watch>,
    loads: Vec<Running>,
    numbers: Numbers,
    flow: Option<Flow>,
    faults: u64,
    in_flight: u64,
    notes: Vec<String>,
    snapshots: u64,
    forwards: [Forward; 2],
}

/// Aggregators stopped with entries in flight.
pub struct Held {
    processes: Vec<Process>,
    /// How many entries.
    pub pending: u64,
}

impl Held {
    /// Lets them go on; one that is gone is no error.
    pub fn release(&self) {
        signal(&self.processes, "-CONT");
    }

    /// Ends them all.
    pub fn kill(&self) {
        signal(&self.processes, "-KILL");
    }
}

impl Trial {
    /// A system of so many aggregators, ready.
    pub async fn begin(name: &'static str, slug: &str, replicas: i32) -> Self {
        Self::with(name, Stage::shared(slug).await, small(replicas)).await
    }

    /// A system on a stage.
    pub async fn with(name: &'static str, stage: Stage, spec: Value) -> Self {
        create(&stage.namespace, NAME, spec).await;
        stage.namespace.ready(NAME).await;
        Self::on(name, stage).await
    }

    /// The system that is there already.
    pub async fn on(name: &'static str, stage: Stage) -> Self {
        let namespace = &stage.namespace;
        let of = |part: &str| format!("{NAME}-{part}");
        let redis = Forward::start(&namespace.client, &namespace.name, &of("redis-0"), 6379).await;
        let postgres = Forward::start(&namespace.client, &namespace.name, &of("postgres-0"), 5432).await;
        let forwards = [redis, postgres];
        let (store, stream) = addresses(namespace, &forwards).await;
        let watch = Some(Watch::start(&store));
        Self {
            stage,
            name,
            store,
            stream,
            watch,
            loads: Vec::new(),
            numbers: Numbers::default(),
            flow: None,
            faults: 0,
            in_flight: 0,
            notes: Vec::new(),
            snapshots: 0,
            forwards,
        }
    }

    /// Looks with the passwords as they are now.
    pub async fn log_in(&mut self) {
        self.snapshots += self.watch.take().map_or(0, Watch::finish);
        (self.store, self.stream) = addresses(&self.stage.namespace, &self.forwards).await;
        self.watch = Some(Watch::start(&self.store));
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.stage.namespace
    }

    /// Starts a load and waits until events are stored. Beside it and behind it events flow until the
    /// end of the trial: whatever needs them finds them, however long everything takes.
    pub async fn load(&mut self, load: Load) {
        let before = self.snapshot().await.received;
        let node = load.node.clone();
        self.send(load).await;
        if self.flow.is_none() {
            self.flow = Some(Flow::start(self.namespace(), NAME, node, self.numbers.clone()));
        }
        self.stored(before + 1).await;
    }

    /// Starts a load, which ends when all of it is sent.
    pub async fn send(&mut self, load: Load) {
        let running = load.start(self.namespace(), NAME, self.numbers.next()).await;
        self.loads.push(running);
    }

    /// Waits until so many events have been received in all.
    pub async fn stored(&self, received: i64) {
        wait_until(&format!("{received} events are received"), SOON, || async {
            let snapshot = self.try_snapshot().await?;
            holds(snapshot.received >= received, || format!("{snapshot:?}"))
        })
        .await;
    }

    /// Waits until so many more have been received: events flow (again). They come for certain after
    /// [`Trial::load`] alone.
    pub async fn more(&self, events: i64) {
        self.stored(self.snapshot().await.received + events).await;
    }

    /// The numbers of the database.
    pub async fn snapshot(&self) -> Snapshot {
        wait_until("a snapshot of the database", SOON, || self.try_snapshot()).await
    }

    async fn try_snapshot(&self) -> Result<Snapshot, String> {
        let read = async { StoreReader::connect(&self.store).await?.snapshot().await };
        read.await.map_err(|error: sqlx::Error| error.to_string())
    }

    /// Events that each of these replicas has committed.
    pub async fn received_by(&self, replica: &str) -> i64 {
        wait_until("the counters of a replica", SOON, || async {
            let read = async { StoreReader::connect(&self.store).await?.received_by(replica).await };
            read.await.map_err(|error: sqlx::Error| error.to_string())
        })
        .await
    }

    /// Waits until a replica commits something, and answers how long that took.
    pub async fn next_commit_of(&self, replica: &str, since: Instant) -> Duration {
        let before = self.received_by(replica).await;
        wait_until(&format!("{replica} commits"), SOON, || async {
            let now = self.received_by(replica).await;
            holds(now > before, || format!("{now}"))
        })
        .await;
        since.elapsed()
    }

    /// Entries delivered and not acknowledged.
    pub async fn pending(&self) -> u64 {
        self.stream(async |stream| stream.pending().await).await
    }

    /// The names of the group's consumers.
    pub async fn consumers(&self) -> Vec<String> {
        let mut names = self.stream(async |stream| stream.consumers().await).await;
        names.sort();
        names
    }

    /// Entries not delivered yet.
    pub async fn lag(&self) -> Option<u64> {
        self.stream(async |stream| stream.lag().await).await
    }

    async fn stream<T>(&self, ask: impl AsyncFn(&mut StreamReader) -> redis::RedisResult<T>) -> T {
        wait_until("Redis answers", SOON, || async {
            let (url, prefix) = &self.stream;
            let mut stream = StreamReader::connect(url, prefix).await;
            ask(&mut stream).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Stops all aggregators when one of them has a batch in flight: what follows hits its entries.
    pub async fn hold(&self) -> Held {
        let lock = self.lock().await;
        lock.holds_up_any().await;
        self.stop_all(lock, async |stream| stream.pending().await).await
    }

    /// [`Trial::hold`] when this replica has a batch in flight.
    pub async fn hold_of(&self, replica: &str) -> Held {
        let lock = self.lock().await;
        lock.holds_up(replica).await;
        self.stop_all(lock, async |stream| stream.pending_of(replica).await).await
    }

    async fn stop_all(
        &self,
        lock: TableLock,
        pending: impl AsyncFn(&mut StreamReader) -> redis::RedisResult<u64>,
    ) -> Held {
        let pods = self.namespace().pods_of(NAME, "aggregator").await;
        let processes: Vec<_> = pods.iter().map(Process::of).collect();
        signal(&processes, "-STOP");
        let held = Held { processes, pending: self.stream(pending).await };
        lock.release().await;
        held
    }

    /// Lets nobody store anything until it is released.
    pub async fn lock(&self) -> TableLock {
        TableLock::take(&self.store).await
    }

    /// Notes a fault, with how much was in flight when it came.
    pub fn fault(&mut self, in_flight: u64) {
        assert!(
            in_flight > 0,
            "nothing is in flight at the fault, though nothing could be stored or answered before it"
        );
        self.faults += 1;
        self.in_flight += in_flight;
    }

    /// Notes a fault that does not touch entries.
    pub fn fault_elsewhere(&mut self) {
        self.faults += 1;
    }

    /// Notes a measurement.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Waits until all loads are over, and compares everything to the event.
    pub async fn end(&mut self) -> Tally {
        if let Some(flow) = self.flow.take() {
            self.loads.extend(flow.stop().await);
        }
        let mut tally = Tally { name: self.name.to_owned(), notes: self.notes.clone(), ..Tally::default() };
        for load in &self.loads {
            let report = load.finish(self.namespace()).await;
            assert!(report.verified != Some(false) && report.sent == report.accepted, "{report:?}");
            assert_eq!(report.unique, load.distinct(), "{report:?}");
            tally.accepted += report.accepted;
            tally.distinct += report.unique;
            tally.repeats += report.retries;
        }
        self.stored(tally.accepted.cast_signed()).await;
        wait_until("nothing is pending", SOON, || async {
            let (pending, lag) = (self.pending().await, self.lag().await);
            holds((pending, lag) == (0, Some(0)), || format!("{pending} pending, lag {lag:?}"))
        })
        .await;
        tally.end = self.snapshot().await;
        let end = &tally.end;
        let numbers = [end.received, end.unique, end.duplicates, end.conflicts, end.dead_lettered, end.rows];
        let (accepted, distinct) = (tally.accepted.cast_signed(), tally.distinct.cast_signed());
        let expected = [accepted, distinct, accepted - distinct, 0, 0, distinct];
        assert_eq!(numbers, expected, "received, unique, duplicates, conflicts, dead-lettered, rows; {tally}");
        self.compare_rows(tally.distinct).await;
        self.namespace().ready(NAME).await;
        (tally.faults, tally.in_flight) = (self.faults, self.in_flight);
        tally.snapshots = self.snapshots + self.watch.take().map_or(0, Watch::finish);
        tally.publish();
        tally
    }

    /// The rows are exactly the ids that the loads sent.
    async fn compare_rows(&self, distinct: u64) {
        let rows = StoreReader::connect(&self.store).await.expect("Postgres").rows().await.expect("the rows");
        let mut seen = HashSet::new();
        for (topic, id, _) in &rows {
            let found = self.loads.iter().find_map(|load| Some((&load.job, load.number(topic, id)?)));
            let event = found.unwrap_or_else(|| panic!("{topic}/{id} was never sent"));
            assert!(seen.insert(event), "{topic}/{id} is stored twice");
        }
        assert_eq!(seen.len() as u64, distinct, "distinct ids among the rows");
    }
}
