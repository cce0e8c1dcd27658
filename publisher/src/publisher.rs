//! What takes packed requests and says what became of them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::StatusCode;
use metrics::Gauge;
use sluice_event::Limits;
use sluice_log::LogWriter;
use sluice_service::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::coalesce::{self, Coalescer, Outcome, Waiting};
use crate::pack::Packed;
use crate::pressure::Gate;
use crate::settings::IngestArgs;

/// When a client is told to come back after the queue was full.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

/// Looked up once: it takes longer than counting does.
static WAITING: LazyLock<Gauge> = LazyLock::new(|| metrics::gauge!(crate::metrics::WAITING_REQUESTS.name));

/// The publishing side over any log. Cheap to clone; its work ends when the last clone is gone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    body_timeout: Duration,
    append_timeout: Duration,
    gate: Arc<Gate>,
    /// Requests that may wait for the log.
    slots: Arc<Semaphore>,
    /// Bytes of bodies that may be in hand.
    bytes: Arc<Semaphore>,
    coalescers: Vec<Coalescer>,
    _watching: DropGuard,
}

impl Publisher {
    /// Starts a coalescer for each of the log's streams. Must be called within the runtime.
    pub fn start(log: Arc<dyn LogWriter>, settings: &IngestArgs) -> Self {
        let gate = Arc::new(Gate::new(settings.max_backlog, settings.max_memory));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(gate.clone().watch(log.clone())));
        let limits = settings.limits();
        let bounds = coalesce::Bounds { appends: settings.max_appends.into(), waiting: settings.max_waiting as usize };
        let coalescers =
            (0..log.streams()).map(|stream| Coalescer::start(stream, log.clone(), gate.clone(), bounds)).collect();
        let bytes = settings.max_waiting_bytes.max(settings.max_body_bytes);
        let shared = Shared {
            limits,
            body_timeout: settings.body_timeout,
            append_timeout: settings.append_timeout,
            gate,
            slots: Arc::new(Semaphore::new(settings.max_waiting as usize)),
            bytes: Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))),
            coalescers,
            _watching: stop.drop_guard(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The bounds of one request.
    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// How long a body may take to arrive.
    pub(crate) fn body_timeout(&self) -> Duration {
        self.shared.body_timeout
    }

    /// Refuses early, before a body is read, what would be refused at its end.
    pub(crate) fn check_room(&self) -> Result<(), Problem> {
        self.shared.gate.check()?;
        if self.shared.slots.available_permits() == 0 { Err(queue_full()) } else { Ok(()) }
    }

    /// A reservation for a body that is about to arrive, to be grown as it does.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation { bytes: self.shared.bytes.clone(), held: None }
    }

    /// Hands a request to its stream's coalescer and waits until the log has answered.
    pub(crate) async fn append(&self, packed: Packed) -> Result<(), Problem> {
        let slot = Slot::take(&self.shared.slots).ok_or_else(queue_full)?;
        let deadline = Instant::now() + self.shared.append_timeout;
        let coalescer = match self.shared.coalescers.as_slice() {
            [only] => only,
            several => {
                let spread = packed.keyed.map_or_else(rand::random, |keyed| keyed.key.as_u128());
                &several[(spread % several.len() as u128) as usize]
            }
        };
        let (reply, answer) = oneshot::channel();
        coalescer.put(Waiting { packed, deadline, reply, slot }).map_err(|_| queue_full())?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Outcome::Stored)) => Ok(()),
            Ok(Ok(Outcome::KeyReused)) => Err(key_reused()),
            Ok(Ok(Outcome::Full)) => Err(crate::pressure::backlog_full()),
            Ok(Ok(Outcome::Failed(cause))) => Err(unavailable(&cause)),
            Ok(Err(_)) => Err(unavailable("the coalescer stopped")),
            Err(_) => Err(unavailable("no answer within the append timeout")),
        }
    }
}

/// The place of one request in the queue; given back when dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Takes a place, if there is one.
    pub(crate) fn take(slots: &Arc<Semaphore>) -> Option<Self> {
        let permit = slots.clone().try_acquire_owned().ok()?;
        WAITING.increment(1);
        Some(Self { _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        WAITING.decrement(1);
    }
}

/// Bytes of one body, counted against what may be in hand; given back when dropped.
pub(crate) struct Reservation {
    bytes: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Reserves so many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = u32::try_from(bytes).ok().and_then(|n| self.bytes.clone().try_acquire_many_owned(n).ok());
        let more = more.ok_or_else(queue_full)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

fn queue_full() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", "too many requests are waiting to be written")
        .retry_after(QUEUE_RETRY)
}

fn key_reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "this Idempotency-Key came with another body before; use a new key for each request",
    )
}

fn unavailable(cause: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", cause)
        .say("the log did not confirm the request; repeat it, under the same Idempotency-Key if it had one")
        .retry_after(Duration::from_secs(1))
}
