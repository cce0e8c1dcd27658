//! The loop: read → decode → commit → acknowledge.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_event::compressed;
use sluice_event::entry::{self, DecodeError};
use sluice_log::{Delivered, LogReader, Position};
use sluice_service::backoff::Backoff;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::appetite::Appetite;
use crate::intake::{BatchSize, Intake, Taken};
use crate::recover;
use crate::store::commit::{Batch, Outcome, Rules, commit};
use crate::store::{NewDeadLetter, Store, StoreError};
use crate::telemetry;

/// One replica's part in aggregating: a consumer of the group, with a few workers.
pub struct Consumer {
    /// What is read.
    pub log: Arc<dyn LogReader>,
    /// Where it goes.
    pub store: Arc<dyn Store>,
    /// How events are stored; each worker counts on a shard of its own.
    pub rules: Rules,
    /// For how long an entry may be held before others claim it.
    pub claim_after: Duration,
    appetite: Appetite,
    intake: Mutex<Intake>,
}

impl Consumer {
    /// A consumer that has not begun to read.
    pub fn new(
        log: Arc<dyn LogReader>,
        store: Arc<dyn Store>,
        rules: Rules,
        size: BatchSize,
        claim_after: Duration,
    ) -> Self {
        let appetite = Appetite::new(size.events);
        let intake = Mutex::new(Intake::new(log.clone(), size));
        Self { log, store, rules, claim_after, appetite, intake }
    }

    /// Reads and stores until `stop`, then finishes what is in hand. What was stored is acknowledged
    /// while the next batch is on its way: the log's disk and the store's need not wait for each other.
    pub async fn work(&self, worker: usize, stop: &CancellationToken) {
        let rules = self.rules_of(&worker.to_string());
        let mut stored = Stored::default();
        loop {
            let next = async {
                let taken = self.read(stop).await?;
                if taken.again {
                    telemetry::recovered(taken.entries.len());
                }
                Some(self.store(&rules, taken, stop).await)
            };
            let ((), next) = tokio::join!(self.acknowledge(&stored, stop), next);
            let Some(next) = next else { break };
            stored = next;
        }
        let rest = self.intake.lock().await.rest();
        self.settle(&rules, Taken { entries: rest, again: false }, stop).await;
    }

    /// The rules of one worker: no two of them add to the same counters at once.
    pub(crate) fn rules_of(&self, worker: &str) -> Rules {
        Rules { shard: format!("{}/{worker}", self.rules.shard), ..self.rules.clone() }
    }

    /// The next batch; `None` once it is time to stop.
    async fn read(&self, stop: &CancellationToken) -> Option<Taken> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            // A read is never dropped half way: what it had been handed would wait for a claim.
            let mut intake = tokio::select! {
                intake = self.intake.lock() => intake,
                () = stop.cancelled() => return None,
            };
            if stop.is_cancelled() {
                return None;
            }
            match intake.next(self.appetite.events()).await {
                Ok(taken) if taken.entries.is_empty() => backoff.reset(),
                Ok(taken) => return Some(taken),
                Err(error) => {
                    telemetry::log_error("read", &error);
                    // The lock is kept meanwhile: the other workers would ask in vain too.
                    pause(backoff.next(), stop).await;
                }
            }
        }
    }

    /// Decodes, commits and acknowledges entries in hand.
    pub(crate) async fn settle(&self, rules: &Rules, taken: Taken, stop: &CancellationToken) {
        let stored = self.store(rules, taken, stop).await;
        self.acknowledge(&stored, stop).await;
    }

    /// Decodes and commits entries in hand.
    async fn store(&self, rules: &Rules, taken: Taken, stop: &CancellationToken) -> Stored {
        let Taken { mut entries, again } = taken;
        if again {
            entries = recover::settle_suspects(self, rules, entries, stop).await;
        }
        if entries.is_empty() {
            return Stored::default();
        }
        let held: Vec<_> = entries.iter().map(|entry| entry.position).collect();
        self.keeping(&held, self.store_all(rules, &entries, None, stop)).await
    }

    /// One transaction for all entries.
    pub(crate) async fn store_all(
        &self,
        rules: &Rules,
        entries: &[Delivered],
        attempted: Option<Position>,
        stop: &CancellationToken,
    ) -> Stored {
        let bodies: Vec<_> = entries.iter().map(|entry| compressed::expand(&entry.body)).collect();
        let (batch, known) = decode(entries, &bodies, attempted);
        if known.is_empty() {
            return Stored::default();
        }
        let Some(outcome) = self.commit(rules, &batch, stop).await else {
            return Stored::default(); // Stopping: it stays pending, and is drained at the next start or claimed.
        };
        telemetry::committed(&outcome);
        self.appetite.learn(&outcome.counts);
        Stored(known)
    }

    /// Commits, again and again while the store is away: the entries are nowhere else to go.
    async fn commit(&self, rules: &Rules, batch: &Batch<'_>, stop: &CancellationToken) -> Option<Outcome> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let began = Instant::now();
            match commit(&*self.store, rules, batch).await {
                Ok(outcome) => {
                    telemetry::commit_time(began.elapsed());
                    return Some(outcome);
                }
                Err(error) => {
                    telemetry::commit_error(&error);
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
                telemetry::log_error("acknowledge", &error);
                if !pause(backoff.next(), stop).await {
                    return; // Receipts skip it when it is delivered again.
                }
            }
        };
        self.keeping(&held, acknowledged).await;
    }

    /// Does `work` while saying, in good time, that these entries are still being worked on.
    pub(crate) async fn keeping<T>(&self, held: &[Position], work: impl Future<Output = T>) -> T {
        let refresh = async {
            let mut ticks = tokio::time::interval(self.claim_after / 3);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                if let Err(error) = self.log.keep(held).await {
                    telemetry::log_error("keep", &error);
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
    let mut known = Vec::with_capacity(entries.len());
    for (delivered, body) in entries.iter().zip(bodies) {
        let position = delivered.position;
        match body.as_ref().map_err(DecodeError::clone).and_then(|body| entry::decode(body)) {
            Ok(entry) => batch.entries.push((position, entry)),
            Err(error @ DecodeError::UnknownVersion(_)) => {
                telemetry::unknown_version();
                tracing::error!(%position, %error, "left pending: upgrade the aggregators before the publishers");
                continue;
            }
            Err(error @ DecodeError::Corrupt(_)) => {
                tracing::error!(%position, %error, "put aside as a dead letter");
                batch.letters.push(raw_letter(delivered, "undecodable", &error.to_string()));
            }
        }
        known.push((position, delivered.events));
    }
    (batch, known)
}

/// A whole entry as a dead letter, with the entry's id where its head can be read.
pub(crate) fn raw_letter(delivered: &Delivered, code: &str, reason: &str) -> (NewDeadLetter, Option<Uuid>) {
    let letter = NewDeadLetter {
        position: delivered.position,
        event: None,
        events: delivered.events,
        code: code.to_owned(),
        reason: reason.to_owned(),
        body: delivered.body.to_vec(),
    };
    (letter, entry::peek_id(&delivered.body))
}
