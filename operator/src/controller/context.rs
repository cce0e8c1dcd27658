//! What reconciling needs beside the resource.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use sluice_service::backoff::Backoff;

use super::build::names::MANAGER;
use super::plan::Defaults;
use crate::autoscale::Decisions;
use crate::program_client::Programs;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What reconciling needs beside the resource.
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// Asks the programs of resources.
    pub programs: Programs,
    /// What the operator's settings say for all resources.
    pub defaults: Defaults,
    /// Publishes events.
    pub recorder: Recorder,
    /// How often to look although nothing was seen to change.
    pub resync: Duration,
    /// What autoscaling decided.
    pub decisions: Decisions,
    failures: Mutex<HashMap<String, Backoff>>,
}

impl Context {
    /// Of an operator called `identity`.
    pub fn new(client: Client, programs: Programs, defaults: Defaults, resync: Duration, identity: String) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            programs,
            defaults,
            resync,
            decisions: Decisions::default(),
            failures: Mutex::default(),
        }
    }

    /// How long to wait after a further failure of this resource.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let backoff = failures.entry(uid.to_owned()).or_insert_with(|| Backoff::new(FIRST_RETRY, LAST_RETRY));
        FIRST_RETRY + backoff.next()
    }

    /// Forgets former failures.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
