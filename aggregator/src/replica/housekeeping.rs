//! What must be done now and then: free the log of what everybody has acknowledged, forget
//! receipts and events that need not be kept any longer, show the backlog.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, pause};
use sluice_store::Maintenance;

const TRIM_EVERY: Duration = Duration::from_millis(500);
const BACKLOG_EVERY: Duration = Duration::from_secs(5);
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

/// Shows the backlog in the metrics until `stop`.
pub async fn show_backlog(consumer: &Consumer, stop: &CancellationToken) {
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

/// Removes old receipts, and events beyond the retention, until `stop`. Receipts are kept for as
/// long as a key is honoured and, beyond that, as anything in a stream is old: a group that is
/// recreated delivers all of it again.
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
            Ok((events, receipts)) => tracing::debug!(events, receipts, "removed what need not be kept"),
            Err(error) => tracing::warn!(%error, "maintenance failed, it is tried again in a minute"),
        }
    }
}
