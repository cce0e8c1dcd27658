//! One replica's consumer of the group: how entries are decoded, committed and acknowledged, whoever
//! asks for it.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_event::entry::{self, DecodeError};
use sluice_event::{EntryId, compressed};
use sluice_log::{Delivered, LogReader, Position};
use sluice_service::backoff::Backoff;
use sluice_store::commit::{Batch, Outcome, commit};
use sluice_store::{CommitOptions, NewDeadLetter, Store, StoreError};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::batch_size::AdaptiveBatchSize;
use crate::replica::intake::{BatchLimits, Intake};

/// One replica's part in aggregating: a consumer of the group, with a few workers.
pub struct Consumer {
    /// What is read.
    pub log: Arc<dyn LogReader>,
    /// Where it goes.
    pub store: Arc<dyn Store>,
    /// How events are stored; each worker counts on a shard of its own.
    pub rules: CommitOptions,
    /// For how long an entry may be held before others claim it.
    pub claim_after: Duration,
    pub(crate) batch_size: AdaptiveBatchSize,
    pub(crate) intake: Mutex<Intake>,
}

impl Consumer {
    /// A consumer that has not begun to read.
    pub fn new(
        log: Arc<dyn LogReader>,
        store: Arc<dyn Store>,
        rules: CommitOptions,
        limits: BatchLimits,
        claim_after: Duration,
    ) -> Self {
        let batch_size = AdaptiveBatchSize::new(limits.events);
        let intake = Mutex::new(Intake::new(log.clone(), limits));
        Self { log, store, rules, claim_after, batch_size, intake }
    }

    /// The rules of one worker: no two of them add to the same counters at once.
    pub(crate) fn rules_of(&self, worker: &str) -> CommitOptions {
        CommitOptions { shard: format!("{}/{worker}", self.rules.shard), ..self.rules.clone() }
    }

    /// One transaction for all entries.
    pub(crate) async fn store_all(
        &self,
        rules: &CommitOptions,
        entries: &[Delivered],
        attempted: Option<Position>,
        stop: &CancellationToken,
    ) -> Stored {
        let bodies: Vec<_> = entries.iter().map(|entry| compressed::expand(&entry.body)).collect();
        let (batch, acknowledgeable) = decode(entries, &bodies, attempted);
        if acknowledgeable.is_empty() {
            return Stored::default();
        }
        let Some(outcome) = self.commit(rules, &batch, stop).await else {
            return Stored::default(); // Stopping: it stays pending, and is drained at the next start or claimed.
        };
        metrics::committed(&outcome);
        self.batch_size.learn(&outcome.counts);
        Stored(acknowledgeable)
    }

    /// Commits, again and again while the store is away: the entries are nowhere else to go.
    async fn commit(&self, rules: &CommitOptions, batch: &Batch<'_>, stop: &CancellationToken) -> Option<Outcome> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let began = Instant::now();
            match commit(&*self.store, rules, batch).await {
                Ok(outcome) => {
                    metrics::commit_time(began.elapsed());
                    return Some(outcome);
                }
                Err(error) => {
                    metrics::commit_error(&error);
                    match error {
                        StoreError::Conflict(_) => tracing::debug!(%error, "committing again"),
                        _ => tracing::warn!(%error, entries = batch.entries.len(), "cannot commit, trying again"),
                    }
                }
            }
            if !pause(backoff.next(), stop).await {
                return None;
            }
        }
    }

    /// Acknowledges what was stored.
    pub(crate) async fn acknowledge(&self, Stored(done): &Stored, stop: &CancellationToken) {
        if done.is_empty() {
            return;
        }
        let held: Vec<_> = done.iter().map(|(position, _)| *position).collect();
        let acknowledged = async {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
            while let Err(error) = self.log.acknowledge(done).await {
                metrics::log_error("acknowledge", &error);
                if !pause(backoff.next(), stop).await {
                    return; // Receipts skip it when it is delivered again.
                }
            }
        };
        self.while_extending_claim(&held, acknowledged).await;
    }

    /// Does `work` while saying, in good time, that these entries are still being worked on.
    pub(crate) async fn while_extending_claim<T>(&self, held: &[Position], work: impl Future<Output = T>) -> T {
        let refresh = async {
            let mut ticks = tokio::time::interval(self.claim_after / 3);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                if let Err(error) = self.log.extend_claim(held).await {
                    metrics::log_error("extend_claim", &error);
                }
            }
        };
        tokio::select! {
            done = work => done,
            never = refresh => never,
        }
    }
}

/// Entries whose batch is committed, with their numbers of events: to be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Stored(Vec<(Position, u64)>);

/// Waits, but not longer than until `stop`; answers whether to go on.
pub(crate) async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stop.cancelled() => false,
    }
}

/// Decodes entries, whose bodies have been expanded; answers also what may be acknowledged once the
/// batch is committed. An entry of a version that this build does not know is left pending, for a
/// newer aggregator.
fn decode<'a>(
    entries: &[Delivered],
    bodies: &'a [Result<Cow<'_, [u8]>, DecodeError>],
    attempted: Option<Position>,
) -> (Batch<'a>, Vec<(Position, u64)>) {
    let mut batch = Batch { attempted, ..Batch::default() };
    let mut acknowledgeable = Vec::with_capacity(entries.len());
    for (delivered, body) in entries.iter().zip(bodies) {
        let position = delivered.position;
        match body.as_ref().map_err(DecodeError::clone).and_then(|body| entry::decode(body)) {
            Ok(entry) => batch.entries.push((position, entry)),
            Err(error @ DecodeError::UnknownVersion(_)) => {
                metrics::unknown_version();
                tracing::error!(%position, %error, "left pending: upgrade the aggregators before the publishers");
                continue;
            }
            Err(error @ DecodeError::Corrupt(_)) => {
                tracing::error!(%position, %error, "put aside as a dead letter");
                batch.dead_letters.push(raw_dead_letter(delivered, "undecodable", &error.to_string()));
            }
        }
        acknowledgeable.push((position, delivered.events));
    }
    (batch, acknowledgeable)
}

/// A whole entry as a dead letter, with the entry's id where its head can be read.
pub(crate) fn raw_dead_letter(delivered: &Delivered, code: &str, reason: &str) -> (NewDeadLetter, Option<EntryId>) {
    let dead_letter = NewDeadLetter {
        position: delivered.position,
        event: None,
        events: delivered.events,
        code: code.to_owned(),
        reason: reason.to_owned(),
        body: delivered.body.to_vec(),
    };
    (dead_letter, entry::peek_id(&delivered.body))
}
