//! Everything one replica does at the same time, until it is told to stop.

pub mod batch_size;
mod consume;
pub mod consumer;
pub mod housekeeping;
pub mod intake;
pub mod recover;
mod suspects;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use consumer::Consumer;

/// How a replica works.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Transactions at the same time.
    pub workers: u16,
    /// After which silence other consumers are removed.
    pub consumer_ttl: Duration,
    /// For how long an `Idempotency-Key` is honoured.
    pub idempotency_ttl: Duration,
    /// For how long events are kept; `None` is for ever.
    pub retention: Option<Duration>,
    /// For how long to finish what is in hand once told to stop.
    pub shutdown_timeout: Duration,
}

/// Aggregates until `stop`; then commits and acknowledges what is in hand and leaves the group.
///
/// # Errors
/// When a part of it panicked, or did not end in time: entries may be pending, for the next start.
pub async fn aggregate(consumer: Arc<Consumer>, plan: Plan, stop: CancellationToken) -> anyhow::Result<()> {
    let mut parts = JoinSet::new();
    for worker in 0..usize::from(plan.workers) {
        let (consumer, stop) = (consumer.clone(), stop.clone());
        parts.spawn(async move { consume::work(&consumer, worker, &stop).await });
    }
    let (c, s) = (consumer.clone(), stop.clone());
    parts.spawn(async move { recover::recover(&c, plan.consumer_ttl, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    parts.spawn(async move { housekeeping::trim(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    parts.spawn(async move { housekeeping::show_backlog(&c, &s).await });
    let (c, s) = (consumer.clone(), stop.clone());
    parts.spawn(async move { housekeeping::maintain(&c, plan.idempotency_ttl, plan.retention, &s).await });

    let finished = async {
        while let Some(part) = parts.join_next().await {
            // One part missing would be a replica that looks alive and is not: end it.
            part.inspect_err(|_| stop.cancel())?;
        }
        anyhow::Ok(())
    };
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(plan.shutdown_timeout).await;
    };
    tokio::select! {
        done = finished => done?,
        () = too_late => anyhow::bail!("what was in hand could not be stored within {:?}; it stays pending", plan.shutdown_timeout),
    }
    match tokio::time::timeout(Duration::from_secs(2), consumer.log.leave()).await {
        Ok(Ok(true)) => tracing::info!("left the consumer group"),
        Ok(Ok(false)) => tracing::info!("stays in the consumer group: entries are pending for the next start"),
        Ok(Err(error)) => tracing::warn!(%error, "could not leave the consumer group"),
        Err(_) => tracing::warn!("could not leave the consumer group in time"),
    }
    Ok(())
}
