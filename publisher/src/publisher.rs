//! The publisher: admits requests, hands them to the coalescers and returns their outcome.

use std::sync::Arc;
use std::time::Duration;

use sluice_event::Keyer;
use sluice_event::ambient::random_u128;
use sluice_log::{KeyedRequest, LogWriter};
use sluice_schema::Schemas;
use sluice_service::problem::Problem;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admission::{Reservation, Slot};
use crate::body_budget::BodyBudget;
use crate::cloud_events::CloudEventRules;
use crate::coalesce::{self, Coalescer};
use crate::expand::Expander;
use crate::outcome::{OutcomeSource, Outcomes};
use crate::pack::{Packed, Rules};
use crate::pressure::Gate;
use crate::problems::{key_reused, log_unavailable, queue_full};
use crate::settings::IngestArgs;
use crate::topic_schemas::TopicSchemas;
use crate::waiting::{Outcome, Waiting};

/// Publishes to a log of any kind. Cheap to clone; its tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    rules: Arc<Rules>,
    /// What became of requests, for clients that wait.
    outcomes: Option<Outcomes>,
    body_timeout: Duration,
    append_timeout: Duration,
    gate: Arc<Gate>,
    /// A permit for each request that may wait for the log.
    slots: Arc<Semaphore>,
    /// The bytes of the bodies that may be held.
    bytes: Arc<BodyBudget>,
    expander: Expander,
    log: Arc<dyn LogWriter>,
    schemas: Arc<TopicSchemas>,
    coalescers: Vec<Coalescer>,
    _watching: DropGuard,
}

impl Publisher {
    /// Starts a coalescer for each of the log's streams. The dedup fields are those of the aggregators. Without
    /// a source of outcomes clients cannot wait. Must be called within a Tokio runtime.
    pub fn start(
        log: Arc<dyn LogWriter>,
        settings: &IngestArgs,
        dedup_fields: &Keyer,
        outcomes: Option<Arc<dyn OutcomeSource>>,
    ) -> Self {
        let gate = Arc::new(Gate::new(settings.max_backlog, settings.max_memory));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(gate.clone().watch(log.clone())));
        let cloud_events = CloudEventRules::new(&settings.cloud_events, dedup_fields);
        let rules = Arc::new(Rules { limits: settings.limits(), cloud_events });
        let schemas = Arc::new(TopicSchemas::new(&*log));
        tokio::spawn(stop.clone().run_until_cancelled_owned(schemas.clone().watch(log.clone())));
        let bounds = coalesce::Bounds { appends: settings.max_appends.into(), waiting: settings.max_waiting as usize };
        let coalescers =
            (0..log.streams()).map(|stream| Coalescer::start(stream, log.clone(), gate.clone(), bounds)).collect();
        let bytes = settings.max_waiting_bytes.max(settings.max_body_bytes);
        let shared = Shared {
            rules,
            outcomes: outcomes.map(|source| Outcomes::new(source, settings.wait_timeout)),
            body_timeout: settings.body_timeout,
            append_timeout: settings.append_timeout,
            gate,
            slots: Arc::new(Semaphore::new(settings.max_waiting as usize)),
            bytes: Arc::new(BodyBudget::new(bytes)),
            expander: Expander::new(settings.body_timeout),
            log,
            schemas,
            coalescers,
            _watching: stop.drop_guard(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns what events must be.
    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.shared.rules
    }

    /// Returns what tells what became of requests, if there is anything.
    pub(crate) fn outcomes(&self) -> Option<&Outcomes> {
        self.shared.outcomes.as_ref()
    }

    /// Returns how long a body may take to arrive.
    pub(crate) fn body_timeout(&self) -> Duration {
        self.shared.body_timeout
    }

    /// Returns what expands compressed bodies.
    pub(crate) fn expander(&self) -> &Expander {
        &self.shared.expander
    }

    /// Returns the schemas of topics; `None` if no topic has one.
    ///
    /// # Errors
    /// `log_unavailable` when they were not read yet, and the log does not answer within the append timeout.
    pub(crate) async fn schemas(&self) -> Result<Option<Arc<Schemas>>, Problem> {
        self.shared.schemas.current(self.shared.append_timeout).await
    }

    /// Returns what is wrong with the schemas of topics, in words.
    pub(crate) fn schema_notes(&self) -> Vec<String> {
        self.shared.schemas.notes()
    }

    /// Returns whether a request was accepted under its key before.
    ///
    /// # Errors
    /// `log_unavailable`.
    pub(crate) async fn was_accepted(&self, keyed: KeyedRequest) -> Result<bool, Problem> {
        let stream = self.stream(Some(keyed)) as u16;
        let asked = tokio::time::timeout(self.shared.append_timeout, self.shared.log.is_recorded(stream, keyed)).await;
        match asked {
            Ok(Ok(recorded)) => Ok(recorded),
            Ok(Err(error)) => Err(log_unavailable(&error.to_string())),
            Err(_) => Err(log_unavailable("no answer within the append timeout")),
        }
    }

    /// Returns the number of a stream: that of a key, or any.
    fn stream(&self, keyed: Option<KeyedRequest>) -> usize {
        let streams = self.shared.coalescers.len();
        let spread = || keyed.map_or_else(random_u128, |keyed| keyed.key.as_u128());
        if streams < 2 { 0 } else { (spread() % streams as u128) as usize }
    }

    /// Refuses a request before its body is read, if it would be refused afterwards.
    ///
    /// # Errors
    /// `backlog_full`, `log_memory_full`, `log_full` or `queue_full`.
    pub(crate) fn check_room(&self) -> Result<(), Problem> {
        self.shared.gate.check()?;
        if self.shared.slots.available_permits() == 0 { Err(queue_full()) } else { Ok(()) }
    }

    /// Returns an empty reservation for a body that is about to arrive, which grows as it does.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation::new(self.shared.bytes.clone())
    }

    /// Hands a request to a stream's coalescer and waits until the log has it on disk. A request
    /// with a key goes to the stream of its key, which remembers the key; others go to any stream. The bytes of its
    /// body stay reserved until the log has answered, even if the caller stops waiting before.
    ///
    /// # Errors
    /// `queue_full`, `log_memory_full`, `log_full`, `idempotency_key_reused` or `log_unavailable`.
    pub(crate) async fn append(&self, packed: Packed, reservation: Reservation) -> Result<(), Problem> {
        let slot = Slot::take(&self.shared.slots)?;
        let deadline = Instant::now() + self.shared.append_timeout;
        let coalescer = &self.shared.coalescers[self.stream(packed.keyed)];
        let (reply, answer) = oneshot::channel();
        coalescer.enqueue(Waiting { packed, deadline, reply, slot, reservation })?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Outcome::Stored)) => Ok(()),
            Ok(Ok(Outcome::KeyReused)) => Err(key_reused()),
            Ok(Ok(Outcome::Full(full))) => Err(full.problem()),
            Ok(Ok(Outcome::Failed(cause))) => Err(log_unavailable(&cause)),
            Ok(Err(_)) => Err(log_unavailable("the coalescer stopped")),
            Err(_) => Err(log_unavailable("no answer within the append timeout")),
        }
    }
}
