//! What the tasks of a client share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::courier::Courier;
use crate::outcome::{Outcome, Rejection};
use crate::settings::Settings;
use crate::stats::Counters;

/// One for each client.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) courier: Courier,
    pub(crate) counters: Arc<Counters>,
    /// One permit for each batch that may be on its way.
    pub(crate) slots: Arc<Semaphore>,
    /// Ends all tasks. What they are about is not answered then.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Returns which of the events were refused, and why. A log line tells it to those who do not await their deliveries.
pub(crate) fn rejections(outcomes: &[Outcome]) -> Vec<(usize, Rejection)> {
    let rejected = outcomes.iter().enumerate().filter_map(|(event, outcome)| match outcome {
        Outcome::Rejected(reason) => Some((event, reason.clone())),
        _ => None,
    });
    let rejected: Vec<_> = rejected.collect();
    if let Some((_, first)) = rejected.first() {
        tracing::warn!(events = rejected.len(), code = first.code, detail = first.detail, "the server refused events");
    }
    rejected
}
