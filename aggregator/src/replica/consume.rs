//! The loop of a worker: read → decode → commit → acknowledge.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use sluice_store::CommitOptions;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Acknowledgeable, Consumer, pause};
use crate::replica::intake::ReadBatch;
use crate::replica::suspects;

/// Reads and stores until `stop`, then stores the entries that were read already. The entries of one batch
/// are acknowledged while the next batch is read and stored, because the log's disk and the store's disk
/// need not wait for each other.
pub(crate) async fn work(consumer: &Consumer, worker: usize, stop: &CancellationToken) {
    let options = consumer.options_for(&worker.to_string());
    let mut stored = Acknowledgeable::default();
    loop {
        let next = async {
            let batch = read(consumer, stop).await?;
            if batch.redelivered {
                metrics::recovered(batch.entries.len());
            }
            Some(store(consumer, &options, batch, stop).await)
        };
        let ((), next) = tokio::join!(consumer.acknowledge(&stored, stop), next);
        let Some(next) = next else { break };
        stored = next;
    }
    loop {
        let surplus = consumer.intake.lock().await.next_surplus();
        let Some(batch) = surplus else { break };
        store_and_acknowledge(consumer, &options, batch, stop).await;
    }
}

/// Reads the next batch; `None` once `stop` is cancelled.
async fn read(consumer: &Consumer, stop: &CancellationToken) -> Option<ReadBatch> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        // A read that has begun is never cancelled: the entries delivered to it would stay pending until
        // another replica claims them.
        let mut intake = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            intake = consumer.intake.lock() => intake,
        };
        if stop.is_cancelled() {
            return None;
        }
        match intake.next(consumer.batch_size.events()).await {
            Ok(batch) if batch.entries.is_empty() => backoff.reset(),
            Ok(batch) => return Some(batch),
            Err(error) => {
                metrics::log_error("read", &error);
                // The lock is held during the pause: a read of another worker would fail too.
                pause(backoff.next(), stop).await;
            }
        }
    }
}

/// Decodes, commits and acknowledges the entries of a batch.
pub(crate) async fn store_and_acknowledge(
    consumer: &Consumer,
    options: &CommitOptions,
    batch: ReadBatch,
    stop: &CancellationToken,
) {
    let stored = store(consumer, options, batch, stop).await;
    consumer.acknowledge(&stored, stop).await;
}

/// Decodes and commits the entries of a batch. Returns those that are not acknowledged yet.
async fn store(
    consumer: &Consumer,
    options: &CommitOptions,
    batch: ReadBatch,
    stop: &CancellationToken,
) -> Acknowledgeable {
    let ReadBatch { mut entries, redelivered } = batch;
    if redelivered {
        entries = suspects::store_suspects_alone(consumer, options, entries, stop).await;
    }
    if entries.is_empty() {
        return Acknowledgeable::default();
    }
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    consumer.while_extending_claim(&positions, consumer.store_all(options, &entries, None, stop)).await
}
