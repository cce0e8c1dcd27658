//! The loop of a worker: read → decode → commit → acknowledge.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use sluice_store::CommitOptions;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, Stored, pause};
use crate::replica::intake::Taken;
use crate::replica::suspects;

/// Reads and stores until `stop`, then finishes the entries in flight. Stored entries are acknowledged
/// while the next batch is being read and stored: the log's disk and the store's disk need not wait for
/// each other.
pub(crate) async fn work(consumer: &Consumer, worker: usize, stop: &CancellationToken) {
    let rules = consumer.rules_of(&worker.to_string());
    let mut stored = Stored::default();
    loop {
        let next = async {
            let taken = read(consumer, stop).await?;
            if taken.redelivered {
                metrics::recovered(taken.entries.len());
            }
            Some(store(consumer, &rules, taken, stop).await)
        };
        let ((), next) = tokio::join!(consumer.acknowledge(&stored, stop), next);
        let Some(next) = next else { break };
        stored = next;
    }
    let rest = consumer.intake.lock().await.take_surplus();
    store_and_acknowledge(consumer, &rules, Taken { entries: rest, redelivered: false }, stop).await;
}

/// Reads the next batch; `None` once `stop` is cancelled.
async fn read(consumer: &Consumer, stop: &CancellationToken) -> Option<Taken> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        // A read that has begun is never cancelled: the entries it was given would stay pending until
        // another replica claims them.
        let mut intake = tokio::select! {
            intake = consumer.intake.lock() => intake,
            () = stop.cancelled() => return None,
        };
        if stop.is_cancelled() {
            return None;
        }
        match intake.next(consumer.batch_size.events()).await {
            Ok(taken) if taken.entries.is_empty() => backoff.reset(),
            Ok(taken) => return Some(taken),
            Err(error) => {
                metrics::log_error("read", &error);
                // The lock is held during the pause: a read of another worker would fail too.
                pause(backoff.next(), stop).await;
            }
        }
    }
}

/// Decodes, commits and acknowledges entries.
pub(crate) async fn store_and_acknowledge(
    consumer: &Consumer,
    rules: &CommitOptions,
    taken: Taken,
    stop: &CancellationToken,
) {
    let stored = store(consumer, rules, taken, stop).await;
    consumer.acknowledge(&stored, stop).await;
}

/// Decodes and commits entries.
async fn store(consumer: &Consumer, rules: &CommitOptions, taken: Taken, stop: &CancellationToken) -> Stored {
    let Taken { mut entries, redelivered } = taken;
    if redelivered {
        entries = suspects::store_suspects_alone(consumer, rules, entries, stop).await;
    }
    if entries.is_empty() {
        return Stored::default();
    }
    let held: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    consumer.while_extending_claim(&held, consumer.store_all(rules, &entries, None, stop)).await
}
