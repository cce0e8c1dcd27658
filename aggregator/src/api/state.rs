//! The state that all handlers of the query API share.

use std::sync::Arc;
use std::time::Instant;

use sluice_log::LogReader;
use sluice_store::CommitOptions;
use sluice_store::inspect::Inspect;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, PATIENCE};
use crate::outcomes::Outcomes;

/// The number of answers at a time with all events that share a topic and an id. Each is in memory as a whole.
const MAX_ALIKE: usize = 2;
/// The number of comparisons of stored events with a schema at the same time.
const MAX_DRY_RUNS: usize = 2;
/// The number of streams of events at the same time.
const MAX_STREAMS: usize = 64;

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
}

impl ApiState {
    /// Returns the state of a server that starts now; `rules` are the commit options of this replica.
    pub fn new(store: Arc<dyn Inspect>, log: Arc<dyn LogReader>, rules: CommitOptions) -> Self {
        // Replays count in a separate shard, so that they never wait for a worker's batch.
        let rules = Arc::new(CommitOptions { shard: format!("{}/replay", rules.shard), ..rules });
        let (alike, dry_runs) = (Answers::new(MAX_ALIKE, PATIENCE), Answers::new(MAX_DRY_RUNS, PATIENCE));
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let shutdown = CancellationToken::new();
        let outcomes = Outcomes::new(store.clone());
        Self { store, log, rules, alike, dry_runs, started: Instant::now(), outcomes, streams, shutdown }
    }

    /// Returns what waits for what becomes of requests.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.clone()
    }

    /// Ends streams at once when the program stops.
    pub fn ending_with(self, shutdown: CancellationToken) -> Self {
        Self { shutdown, ..self }
    }
}
