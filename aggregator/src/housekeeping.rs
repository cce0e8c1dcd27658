//! What must be done now and then: free the log of what everybody has acknowledged, forget
//! receipts and events that need not be kept any longer, show the backlog.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::consume::{Consumer, pause};
use crate::store::Maintenance;
use crate::telemetry;

const TRIM_EVERY: Duration = Duration::from_millis(500);
const BACKLOG_EVERY: Duration = Duration::from_secs(5);
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

/// Trims the log until `stop`.
pub async fn trim(consumer: &Consumer, stop: &CancellationToken) {
    let mut backoff = Backoff::new(TRIM_EVERY, Duration::from_secs(10));
    loop {
        let next = match consumer.log.trim().await {
            Ok(entries) => {
                telemetry::trimmed(entries);
                backoff.reset();
                TRIM_EVERY
            }
            Err(error) => {
                telemetry::log_error("trim", &error);
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
            Ok(backlog) => telemetry::backlog(&backlog),
            Err(error) => {
                telemetry::backlog(&sluice_log::Backlog::default());
                telemetry::log_error("backlog", &error);
            }
        }
    }
}

/// Removes old receipts, and events beyond the retention, until `stop`. Receipts are kept for as
/// long as a key is honoured and, beyond that, as anything in a stream is old: a group that is
/// recreated delivers all of it again.
pub async fn maintain(consumer: &Consumer, key_keep: Duration, retention: Option<Duration>, stop: &CancellationToken) {
    while pause(MAINTAIN_EVERY, stop).await {
        let oldest = match consumer.log.backlog().await {
            Ok(backlog) => backlog.oldest.unwrap_or_default(),
            Err(error) => {
                telemetry::log_error("backlog", &error);
                continue;
            }
        };
        let maintenance = Maintenance { receipts_keep: key_keep + oldest, retention };
        match consumer.store.maintain(&maintenance).await {
            Ok((events, receipts)) => tracing::debug!(events, receipts, "removed what need not be kept"),
            Err(error) => tracing::warn!(%error, "maintenance failed, it is tried again in a minute"),
        }
    }
}
