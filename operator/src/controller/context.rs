//! The clients, settings and state that all reconciles share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use sluice_service::backoff::Backoff;

use super::build::names::MANAGER;
use super::changes::Changes;
use super::last_status::LastStatus;
use super::optional::Optional;
use super::plan::Defaults;
use super::progress::Progress;
use super::server_restarts::ServerRestarts;
use super::unready::Unready;
use super::upgrade::measured::Measurements;
use super::watches::Watches;
use crate::autoscale::Decisions;
use crate::program_client::Programs;

/// The shortest wait after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The upper bound of the exponential backoff.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// How long after its last failure a resource is remembered. It is longer than the longest wait between two
/// attempts, so only resources that are not reconciled any more, such as deleted ones, are forgotten.
const REMEMBERED: Duration = Duration::from_secs(1800);

/// The clients, settings and state that all reconciles share.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// Queries the programs of resources over HTTP.
    pub programs: Programs,
    /// Values from the operator's settings that hold for all resources.
    pub defaults: Defaults,
    /// Publishes events.
    pub recorder: Recorder,
    /// How often a resource is reconciled although nothing is known to have changed.
    pub resync: Duration,
    /// The decisions of autoscaling.
    pub decisions: Decisions,
    /// The status that was written last to each resource.
    pub last_status: LastStatus,
    /// The resources that have changed.
    pub changes: Changes,
    /// The kinds that the cluster may lack.
    pub optional: Optional,
    /// The reasons that aggregators give for not being ready.
    pub unready: Unready,
    /// What is known about the load of resources that are upgraded or restored.
    pub measurements: Measurements,
    /// The watches that fail.
    pub watches: Watches,
    /// The resources whose servers restart.
    pub server_restarts: ServerRestarts,
    /// The reconciles that run.
    pub progress: Progress,
    failures: Mutex<HashMap<String, Failing>>,
}

/// A resource whose last reconcile failed.
struct Failing {
    backoff: Backoff,
    last: Instant,
}

impl Context {
    /// Creates the context of an operator. `identity` names it in events.
    pub fn new(client: Client, programs: Programs, defaults: Defaults, resync: Duration, identity: String) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            programs,
            defaults,
            resync,
            decisions: Decisions::default(),
            last_status: LastStatus::default(),
            changes: Changes::default(),
            optional: Optional::default(),
            unready: Unready::default(),
            measurements: Measurements::default(),
            watches: Watches::default(),
            server_restarts: ServerRestarts::new(1),
            progress: Progress::default(),
            failures: Mutex::default(),
        }
    }

    /// Records a failure of this resource, and returns how long to wait before the next attempt.
    pub fn failed(&self, uid: &str, now: Instant) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failing| now.saturating_duration_since(failing.last) < REMEMBERED);
        let first = || Failing { backoff: Backoff::new(FIRST_RETRY, LAST_RETRY), last: now };
        let failing = failures.entry(uid.to_owned()).or_insert_with(first);
        failing.last = now;
        FIRST_RETRY + failing.backoff.next()
    }

    /// Returns the number of resources whose last reconcile failed.
    pub fn failing(&self) -> usize {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Resets the backoff of this resource.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
