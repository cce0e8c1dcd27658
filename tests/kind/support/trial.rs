//! A trial: one resource in its own namespace, under load, with a watch on its database and a final comparison.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
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
use super::held::Held;
use super::load::{Load, Running};
use super::node::{Process, signal};
use super::objects::{Namespace, SOON, event_aggregator};
use super::tally::{self, Tally};
use super::{cluster, dump, durability, install};

/// The name of the resource.
pub const NAME: &str = "shop";

/// Locked exclusively by a test that must run alone on the cluster, and shared by all others.
static CLUSTER: LazyLock<RwLock<()>> = LazyLock::new(RwLock::default);

/// Locked exclusively by a test that stops or restarts the operator, and shared by tests that need it to run.
/// Most tests take no lock: they only wait longer while the operator is stopped.
pub static OPERATOR: LazyLock<RwLock<()>> = LazyLock::new(RwLock::default);

/// The lock on [`CLUSTER`] that a stage holds. It is released when the stage is dropped.
#[allow(dead_code, reason = "a lock is held, not read")]
enum Place {
    /// No lock: the stage beside it holds one, and is dropped later.
    Beside,
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// The namespace of one test. On drop it is deleted, and before that its state is dumped if the test failed.
/// With `SLUICE_TEST_KEEP` set it is not deleted.
pub struct Stage {
    /// The namespace.
    pub namespace: Namespace,
    _place: Place,
    began: Instant,
}

impl Stage {
    /// Creates a namespace for a test that can run at the same time as others.
    pub async fn shared(name: &str) -> Self {
        Self::make(name, Place::Shared(CLUSTER.read().await)).await
    }

    /// Waits until no other test runs, and creates a namespace. Other tests wait until it is dropped.
    pub async fn alone(name: &str) -> Self {
        Self::make(name, Place::Alone(CLUSTER.write().await)).await
    }

    /// Creates a second namespace for the same test, which must drop it before this one. [`Stage::shared`]
    /// would deadlock here: the second lock waits for a test that waits for the first lock to be released.
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
        Self { namespace, _place: place, began: Instant::now() }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let name = &self.namespace.name;
        if !matches!(self._place, Place::Beside) {
            tally::took(self.began.elapsed());
        }
        if std::thread::panicking() {
            dump::dump(name);
        }
        if std::env::var_os("SLUICE_TEST_KEEP").is_none() {
            cluster::try_kubectl(&["delete", "namespace", name, "--wait=false"], "");
        }
    }
}

/// Returns a spec with small resource requests, because several tests share one machine.
pub fn small(replicas: i32) -> Value {
    let resources = json!({ "requests": { "cpu": "20m", "memory": "32Mi" } });
    json!({
        "aggregator": { "replicas": replicas, "claimAfter": "5s", "consumerTtl": "20s", "resources": resources },
        "publisher": { "replicas": 1, "resources": resources },
        "redis": { "managed": { "memory": "256Mi", "cpu": "20m", "storage": { "size": "1Gi" } } },
        "postgres": { "managed": { "memory": "512Mi", "cpu": "20m", "storage": { "size": "1Gi" } } },
    })
}

/// Creates a resource, which must be accepted. Repeats the request while the API server fails: on a busy machine
/// etcd may be too slow.
pub async fn create(namespace: &Namespace, name: &str, spec: Value) {
    let mut resource = DynamicObject::new(name, &event_aggregator());
    resource.data = json!({ "spec": spec });
    let has_failed = AtomicBool::new(false);
    wait_until("the API server stores the resource", SOON, || async {
        match namespace.resources().create(&PostParams::default(), &resource).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code >= 500 => {
                has_failed.store(true, Ordering::Relaxed);
                Err(status.message)
            }
            // A request that failed may have been executed.
            Err(kube::Error::Api(status)) if status.code == 409 && has_failed.load(Ordering::Relaxed) => Ok(()),
            Err(error) => panic!("the resource is refused: {error}"),
        }
    })
    .await;
}

/// Returns the address of the store, and the URL of Redis with the prefix of the streams, both through
/// the forwarded ports.
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

/// A system under load, whose database is watched.
pub struct Trial {
    /// Its namespace.
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

impl Trial {
    /// Creates a system with this number of aggregators, and waits until it is Ready.
    pub async fn begin(name: &'static str, slug: &str, replicas: i32) -> Self {
        Self::with(name, Stage::shared(slug).await, small(replicas)).await
    }

    /// Creates a system with this spec, and waits until it is Ready.
    pub async fn with(name: &'static str, stage: Stage, spec: Value) -> Self {
        create(&stage.namespace, NAME, spec).await;
        stage.namespace.ready(NAME).await;
        Self::on(name, stage).await
    }

    /// Starts a trial of a system that exists already.
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

    /// Reads the passwords again after they have changed, and restarts the watch with them.
    pub async fn log_in(&mut self) {
        self.snapshots += self.watch.take().map_or(0, Watch::finish);
        (self.store, self.stream) = addresses(&self.stage.namespace, &self.forwards).await;
        self.watch = Some(Watch::start(&self.store));
    }

    /// Follows the database to another pod, whose name follows that of the resource, and restarts the watch there.
    pub async fn moved_to(&mut self, pod: &str) {
        let namespace = self.stage.namespace.clone();
        self.forwards[1] = Forward::start(&namespace.client, &namespace.name, &format!("{NAME}-{pod}"), 5432).await;
        self.log_in().await;
    }

    /// Ends the watch of the database, whose numbers are about to go back.
    pub fn unwatch(&mut self) {
        self.snapshots += self.watch.take().map_or(0, Watch::finish);
    }

    /// Asserts that both servers sync to the disk what they answer for.
    pub async fn assert_durable(&self) {
        let wrong = wait_until("the settings of both servers", SOON, || async {
            let StoreAddress::Postgres { url, .. } = &self.store else { return Err("no PostgreSQL".to_owned()) };
            let mut wrong = durability::wrong_in_redis(&self.stream.0).await.map_err(|error| error.to_string())?;
            wrong.extend(durability::wrong_in_postgres(url).await.map_err(|error| error.to_string())?);
            Ok(wrong)
        })
        .await;
        assert!(wrong.is_empty(), "a power cut would lose what was answered: {wrong:?}");
    }

    /// Returns the namespace of the trial.
    pub fn namespace(&self) -> &Namespace {
        &self.stage.namespace
    }

    /// Starts a load, and waits until events are stored. In addition it starts a continuous flow of events
    /// until the end of the trial, so that events arrive during every later step, however long it takes.
    pub async fn load(&mut self, load: Load) {
        let before = self.snapshot().await.received;
        let node = load.node.clone();
        self.send(load).await;
        if self.flow.is_none() {
            self.flow = Some(Flow::start(self.namespace(), NAME, node, self.numbers.clone()));
        }
        self.stored(before + 1).await;
    }

    /// Starts a load, which ends when all its events have been sent.
    pub async fn send(&mut self, load: Load) {
        let running = load.start(self.namespace(), NAME, self.numbers.next()).await;
        self.loads.push(running);
    }

    /// Waits until all loads have ended that were sent so far.
    pub async fn finished(&self) {
        for load in &self.loads {
            load.finish(self.namespace()).await;
        }
    }

    /// Waits until the counter `received` has reached this value.
    pub async fn stored(&self, received: i64) {
        wait_until(&format!("{received} events are received"), SOON, || async {
            let snapshot = self.try_snapshot().await?;
            holds(snapshot.received >= received, || format!("{snapshot:?}"))
        })
        .await;
    }

    /// Waits until this number of further events has been received, which shows that events flow (again).
    /// Only after [`Trial::load`] it is certain that further events arrive.
    pub async fn more(&self, events: i64) {
        self.stored(self.snapshot().await.received + events).await;
    }

    /// Returns the counts and the number of rows in the database.
    pub async fn snapshot(&self) -> Snapshot {
        wait_until("a snapshot of the database", SOON, || self.try_snapshot()).await
    }

    async fn try_snapshot(&self) -> Result<Snapshot, String> {
        let read = async { StoreReader::connect(&self.store).await?.snapshot().await };
        read.await.map_err(|error: sqlx::Error| error.to_string())
    }

    /// Returns the number of events that a replica has committed.
    pub async fn received_by(&self, replica: &str) -> i64 {
        wait_until("the counters of a replica", SOON, || async {
            let read = async { StoreReader::connect(&self.store).await?.received_by(replica).await };
            read.await.map_err(|error: sqlx::Error| error.to_string())
        })
        .await
    }

    /// Waits until a replica commits events, and returns the time since `since`.
    pub async fn next_commit_of(&self, replica: &str, since: Instant) -> Duration {
        let before = self.received_by(replica).await;
        wait_until(&format!("{replica} commits"), SOON, || async {
            let now = self.received_by(replica).await;
            holds(now > before, || format!("{now}"))
        })
        .await;
        since.elapsed()
    }

    /// Returns the number of entries that are delivered and not acknowledged.
    pub async fn pending(&self) -> u64 {
        self.stream(async |stream| stream.pending().await).await
    }

    /// Returns the names of the consumers of the group, sorted.
    pub async fn consumers(&self) -> Vec<String> {
        let mut names = self.stream(async |stream| stream.consumers().await).await;
        names.sort();
        names
    }

    /// Returns the number of entries that are not delivered yet, or `None` if Redis cannot determine it.
    pub async fn lag(&self) -> Option<u64> {
        self.stream(async |stream| stream.lag().await).await
    }

    async fn stream<T>(&self, ask: impl AsyncFn(&mut StreamReader) -> redis::RedisResult<T>) -> T {
        wait_until("Redis responds", SOON, || async {
            let (url, prefix) = &self.stream;
            let mut stream = StreamReader::connect(url, prefix).await;
            ask(&mut stream).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Pauses all aggregators at a moment when one of them has a batch in flight, so that the next fault
    /// affects its entries.
    pub async fn hold(&self) -> Held {
        let lock = self.lock().await;
        lock.holds_up_any().await;
        self.stop_all(lock, async |stream| stream.pending().await).await
    }

    /// Like [`Trial::hold`], at a moment when this replica has a batch in flight.
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

    /// Prevents all replicas from storing events until the lock is released.
    pub async fn lock(&self) -> TableLock {
        TableLock::take(&self.store).await
    }

    /// Records a fault, and the number of entries or requests in flight at that moment.
    pub fn fault(&mut self, in_flight: u64) {
        assert!(
            in_flight > 0,
            "nothing is in flight at the fault, though nothing could be stored or answered before it"
        );
        self.faults += 1;
        self.in_flight += in_flight;
    }

    /// Records a fault that does not affect entries.
    pub fn fault_elsewhere(&mut self) {
        self.faults += 1;
    }

    /// Adds a measurement to the tally.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Waits until all loads have ended, and compares the counts, the rows and the stream with the events that
    /// were sent.
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

    /// Asserts that the rows are exactly the events that the loads sent.
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
