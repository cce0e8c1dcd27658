//! Waits for what becomes of requests: one query of the store asks for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use futures::future::BoxFuture;
use sluice_event::ReceiptId;
use sluice_publisher::outcome::{Outcome, OutcomeSource};
use sluice_store::StoreError;
use sluice_store::inspect::Inspect;
use sluice_store::outcomes::RequestOutcome;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// The largest number of requests that are waited for.
const MAX_WAITING: usize = 8_192;
/// The largest number of requests in one query.
const MAX_ASKED: usize = 1_000;
/// The store is asked again after the first pause, which grows to the second while nothing is found.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);
/// The pause after an error of the store.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Those who wait.
#[derive(Default)]
struct Waiting {
    by_receipt: HashMap<ReceiptId, Vec<oneshot::Sender<RequestOutcome>>>,
    /// Whether a task asks the store for them.
    is_asking: bool,
}

/// Waits for outcomes. Clones share the queries.
#[derive(Clone)]
pub struct Outcomes {
    store: Arc<dyn Inspect>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Outcomes {
    /// Returns what waits for outcomes in a store.
    pub fn new(store: Arc<dyn Inspect>) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Waits until it is known what became of a request, for as long as it is polled. Returns `None` if too many are waited for.
    pub async fn wait(&self, receipt: ReceiptId) -> Option<RequestOutcome> {
        let (sender, outcome) = oneshot::channel();
        let begins = {
            let mut waiting = self.lock();
            if waiting.by_receipt.len() >= MAX_WAITING {
                return None;
            }
            waiting.by_receipt.entry(receipt).or_default().push(sender);
            !std::mem::replace(&mut waiting.is_asking, true)
        };
        if begins {
            tokio::spawn(self.clone().ask());
        }
        outcome.await.ok()
    }

    /// Asks the store until nobody waits.
    async fn ask(self) {
        let mut pause = FIRST_PAUSE;
        while let Some(receipts) = self.asked() {
            pause = match self.look_up(&receipts).await {
                Ok(true) => FIRST_PAUSE,
                Ok(false) => (pause * 2).min(MAX_PAUSE),
                Err(error) => {
                    tracing::debug!(%error, "the outcomes of requests are not known");
                    ERROR_PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// Tells those who wait what is known of these requests. Returns whether anything is.
    async fn look_up(&self, receipts: &[ReceiptId]) -> Result<bool, StoreError> {
        let mut any = false;
        for receipts in receipts.chunks(MAX_ASKED) {
            for outcome in self.store.outcomes(receipts).await? {
                any = true;
                let waiting = self.lock().by_receipt.remove(&outcome.receipt);
                for sender in waiting.into_iter().flatten() {
                    // Whoever does not wait any more does not need it.
                    let _ = sender.send(outcome);
                }
            }
        }
        Ok(any)
    }

    /// Returns the receipts that somebody waits for; `None` if nobody waits, and then nobody asks any more.
    fn asked(&self) -> Option<Vec<ReceiptId>> {
        let mut waiting = self.lock();
        waiting.by_receipt.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.is_asking = !waiting.by_receipt.is_empty();
        waiting.is_asking.then(|| waiting.by_receipt.keys().copied().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In `standalone` the publisher is in the same process.
impl OutcomeSource for Outcomes {
    fn outcome(&self, receipt: ReceiptId, _authorization: Option<HeaderValue>) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            match self.wait(receipt).await {
                Some(outcome) => shown(outcome),
                None => std::future::pending().await,
            }
        })
    }
}

/// Returns an outcome as clients get it.
pub(crate) fn shown(outcome: RequestOutcome) -> Outcome {
    let RequestOutcome { receipt: _, stored, duplicates, conflicts, dead_lettered } = outcome;
    Outcome { stored, duplicates, conflicts, dead_lettered }
}
