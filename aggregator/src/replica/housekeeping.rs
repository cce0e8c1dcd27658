//! The periodic tasks of a replica: trim acknowledged entries from the log, remove expired receipts and
//! events from the store, and measure the backlog.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use sluice_store::Maintenance;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, pause};

/// Often, because acknowledged entries take memory in Redis until they are trimmed.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// More often than Prometheus scrapes by default, which is once a minute.
const BACKLOG_EVERY: Duration = Duration::from_secs(5);
/// Rows expire after hours or days, so one more minute does not matter.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

/// Trims the log until `stop`.
pub async fn trim(consumer: &Consumer, stop: &CancellationToken) {
    let mut backoff = Backoff::new(TRIM_EVERY, Duration::from_secs(10));
    loop {
        let next = match consumer.log.trim().await {
            Ok(entries) => {
                metrics::trimmed(entries);
                backoff.reset();
                TRIM_EVERY
            }
            Err(error) => {
                metrics::log_error("trim", &error);
                TRIM_EVERY + backoff.next()
            }
        };
        if !pause(next, stop).await {
            return;
        }
    }
}

/// Measures the backlog for the metrics until `stop`.
pub async fn measure_backlog(consumer: &Consumer, stop: &CancellationToken) {
    while pause(BACKLOG_EVERY, stop).await {
        match consumer.log.backlog().await {
            Ok(backlog) => metrics::backlog(&backlog),
            Err(error) => {
                metrics::backlog(&sluice_log::Backlog::default());
                metrics::log_error("backlog", &error);
            }
        }
    }
}

/// Removes expired receipts, and events older than the retention, until `stop`. A receipt expires after
/// the `Idempotency-Key`'s time to live plus the age of the oldest entry in the log: a consumer group that
/// was lost and created again delivers every such entry a second time, and each must find its receipt.
pub async fn maintain(
    consumer: &Consumer,
    idempotency_ttl: Duration,
    retention: Option<Duration>,
    stop: &CancellationToken,
) {
    while pause(MAINTAIN_EVERY, stop).await {
        let oldest = match consumer.log.backlog().await {
            Ok(backlog) => backlog.oldest.unwrap_or_default(),
            Err(error) => {
                metrics::log_error("backlog", &error);
                continue;
            }
        };
        let maintenance = Maintenance { receipts_ttl: idempotency_ttl + oldest, retention };
        match consumer.store.maintain(&maintenance).await {
            Ok((events, receipts)) => tracing::debug!(events, receipts, "removed expired events and receipts"),
            Err(error) => tracing::warn!(%error, "maintenance failed, trying again in a minute"),
        }
    }
}
