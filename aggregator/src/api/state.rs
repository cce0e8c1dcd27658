//! The state that all handlers of the query API share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_log::LogReader;
use sluice_service::probes::Readiness;
use sluice_store::CommitOptions;
use sluice_store::inspect::Inspect;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, PATIENCE};
use super::held::Held;
use crate::latency::Latency;
use crate::outcomes::Outcomes;
use crate::overdue::{self, OverdueWatch};

/// The number of answers at a time with all events that share a topic and an id. Each is in memory as a whole.
const MAX_ALIKE: usize = 2;
/// The number of comparisons of stored events with a schema at the same time.
const MAX_DRY_RUNS: usize = 2;
/// The number of streams of events at the same time.
const MAX_STREAMS: usize = 64;

/// The readiness check of a replica.
pub(super) type ReadyCheck = Arc<dyn Fn() -> BoxFuture<'static, Readiness> + Send + Sync>;

/// What a replica knows about itself.
#[derive(Clone)]
pub(super) struct OwnState {
    /// Its name.
    pub replica: String,
    /// The latencies of what it stored.
    pub latency: Arc<Latency>,
    /// What is wrong with it.
    pub ready: ReadyCheck,
    /// What maintenance should have done by now.
    pub overdue: Arc<OverdueWatch>,
}

/// The store, the log and the commit options of replays. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(super) store: Arc<dyn Inspect>,
    pub(super) log: Arc<dyn LogReader>,
    pub(super) rules: Arc<CommitOptions>,
    /// The bound of events that are read as a whole before they are sent.
    pub(super) alike: Answers,
    /// The bound of comparisons of stored events with a schema.
    pub(super) dry_runs: Answers,
    pub(super) started: Instant,
    /// Waits for what becomes of requests.
    pub(super) outcomes: Outcomes,
    /// The bound of streams.
    pub(super) streams: Arc<Semaphore>,
    /// Ends the streams, which would otherwise outlast a shutdown.
    pub(super) shutdown: CancellationToken,
    pub(super) own: OwnState,
    pub(super) overviews: Held,
    /// Whether the page for browsers is served.
    pub(super) has_page: bool,
}

impl ApiState {
    /// Returns the state of a server that starts now; `rules` are the commit options of this replica.
    pub fn new(store: Arc<dyn Inspect>, log: Arc<dyn LogReader>, rules: CommitOptions) -> Self {
        // Replays count in a separate shard, so that they never wait for a worker's batch.
        let ready: ReadyCheck = Arc::new(|| async { Ok(Vec::new()) }.boxed());
        let own = OwnState { replica: rules.shard.clone(), latency: Arc::default(), ready, overdue: Arc::default() };
        let rules = Arc::new(CommitOptions { shard: format!("{}/replay", rules.shard), ..rules });
        let (alike, dry_runs) = (Answers::new(MAX_ALIKE, PATIENCE), Answers::new(MAX_DRY_RUNS, PATIENCE));
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let shutdown = CancellationToken::new();
        let outcomes = Outcomes::new(store.clone());
        let overviews = Held::default();
        let started = Instant::now();
        let has_page = true;
        Self { store, log, rules, alike, dry_runs, started, outcomes, streams, shutdown, own, overviews, has_page }
    }

    /// Returns what waits for what becomes of requests.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.clone()
    }

    /// Tells what this replica knows about itself.
    pub(crate) fn of_replica(self, latency: Arc<Latency>, ready: ReadyCheck) -> Self {
        let own = OwnState { latency, ready, ..self.own };
        Self { own, ..self }
    }

    /// Looks at what maintenance should have done by now, until `stop`; `retention` is how long events are retained.
    pub(crate) fn watch_overdue(
        &self,
        retention: Option<Duration>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        overdue::watch(self.store.clone(), self.own.overdue.clone(), retention, stop)
    }

    /// Decides whether the page for browsers is served.
    pub fn with_page(self, has_page: bool) -> Self {
        Self { has_page, ..self }
    }

    /// Ends streams at once when the program stops.
    pub fn ending_with(self, shutdown: CancellationToken) -> Self {
        Self { shutdown, ..self }
    }
}
