//! One replica: its workers and its periodic tasks, run side by side until it is told to stop.
//!
//! Start reading at [`aggregate`]. `consume` is the loop of a worker, [`intake`] reads its batches,
//! [`consumer`] decodes, commits and acknowledges them, [`recover`] takes over entries of dead replicas,
//! and `suspects` stores alone the entries that may have killed them. [`failover`] notices that the store has lost
//! commits, and `replay` stores them again.

mod batch_cut;
pub mod batch_size;
mod batch_trace;
pub mod commit_watch;
mod consume;
pub mod consumer;
pub mod failover;
pub mod housekeeping;
pub mod intake;
pub mod name_check;
mod read_size;
pub mod recover;
mod replay;
mod suspects;

use std::sync::Arc;
use std::time::Duration;

use sluice_store::conflicts::ConflictLimits;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use consumer::Consumer;

/// The longest that a start waits until the store is compared with the log.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of one replica.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaSettings {
    /// The number of workers: transactions at the same time.
    pub workers: u16,
    /// How long another consumer may be idle, with nothing pending, before it is removed from the group.
    pub consumer_ttl: Duration,
    /// The time to live of an `Idempotency-Key`.
    pub idempotency_ttl: Duration,
    /// The age at which events are removed; `None` never removes any.
    pub retention: Option<Duration>,
    /// How long the counts of each minute and topic are kept.
    pub series_retention: Duration,
    /// How many conflicts are kept.
    pub conflicts: ConflictLimits,
    /// How often the partitions of events are looked after.
    pub partitions_every: Duration,
    /// How long entries in flight may take to be stored after `stop`.
    pub shutdown_timeout: Duration,
}

/// Aggregates until `stop`; then commits and acknowledges the entries in flight, and leaves the group.
///
/// # Errors
/// When a task panicked, or did not end within the shutdown timeout. Entries may then be pending: this
/// replica reads them at its next start, or another one claims them.
pub async fn aggregate(
    consumer: Arc<Consumer>,
    settings: ReplicaSettings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Before anything is committed. If the store or the log does not answer, each commit compares by itself.
    if let Some(failover) = &consumer.failover {
        let _ = tokio::time::timeout(COMPARE_TIMEOUT, failover.compare()).await;
    }
    let mut tasks = JoinSet::new();
    for worker in 0..usize::from(settings.workers) {
        let (consumer, stop) = (consumer.clone(), stop.clone());
        tasks.spawn(async move { consume::work(&consumer, worker, &stop).await });
    }
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { recover::recover(&c, settings.consumer_ttl, &s).await });
    if let Some(failover) = consumer.failover.clone() {
        let (c, s) = (consumer.clone(), stop.clone());
        tasks.spawn(async move { replay::replay(&c, &failover, &s).await });
    }
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::trim(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::measure_backlog(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::fold_counters(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::watch_commits(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    let (ttl, retention, conflicts) = (settings.idempotency_ttl, settings.retention, settings.conflicts);
    tasks.spawn(async move { housekeeping::maintain(&c, ttl, retention, conflicts, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    let (retention, every) = (settings.retention, settings.partitions_every);
    tasks.spawn(async move { housekeeping::maintain_partitions(&c, retention, every, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::maintain_series(&c, settings.series_retention, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    tasks.spawn(async move { housekeeping::maintain_meters(&c, &s).await });

    let finished = async {
        while let Some(task) = tasks.join_next().await {
            // Without one of its tasks a replica would look alive and not do its work: end it.
            task.inspect_err(|_| stop.cancel())?;
        }
        anyhow::Ok(())
    };
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(settings.shutdown_timeout).await;
    };
    tokio::select! {
        biased;
        done = finished => done?,
        () = too_late => anyhow::bail!("entries in flight could not be stored within {:?}; they stay pending", settings.shutdown_timeout),
    }
    match tokio::time::timeout(Duration::from_secs(2), consumer.log.leave()).await {
        Ok(Ok(true)) => tracing::info!("left the consumer group"),
        Ok(Ok(false)) => tracing::info!("stays in the consumer group, because entries are pending for the next start"),
        Ok(Err(error)) => tracing::warn!(%error, "could not leave the consumer group"),
        Err(_) => tracing::warn!("could not leave the consumer group in time"),
    }
    Ok(())
}
