//! The periodic tasks of a replica: trim acknowledged entries from the log, remove expired receipts and
//! events from the store, and measure the backlog.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use sluice_store::conflicts::ConflictLimits;
use sluice_store::{Maintenance, Removed};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, pause};

/// Often, because acknowledged entries take memory in Redis until they are trimmed.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// Short: the end of a replay is noticed by the comparison before a trim, and commits wait for it.
const MAX_TRIM_BACKOFF: Duration = Duration::from_secs(2);
/// More often than Prometheus scrapes by default, which is once a minute.
const BACKLOG_EVERY: Duration = Duration::from_secs(5);
/// Often, so that an alert is not late; it costs nothing.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Rows expire after hours or days, so one more minute does not matter.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// Often, so that a partition that fills fast does not become much larger than it should.
pub const PARTITIONS_EVERY: Duration = Duration::from_secs(5);
/// Often, because each answer about series reads what was not added up yet.
const SERIES_EVERY: Duration = Duration::from_secs(5);
const METERS_EVERY: Duration = SERIES_EVERY;
const MAX_SERIES_BACKOFF: Duration = Duration::from_secs(60);
const MAX_PARTITIONS_BACKOFF: Duration = Duration::from_secs(60);
/// How long one call of the store may delete. Then the age of the oldest entry is looked at again, and `stop`.
const MAINTAIN_DURATION: Duration = Duration::from_secs(5);
/// The pause after a call that ended for lack of time: rows that expire faster than once a minute's few seconds
/// can delete would else pile up.
const MAINTAIN_AGAIN: Duration = Duration::from_millis(100);
/// Each time reads all counters once. A minute after a start all replicas have read from the log, so that their names
/// are known; adding up the counters of one that is there would be no error.
const FOLD_FIRST: Duration = Duration::from_secs(60);
const FOLD_EVERY: Duration = Duration::from_secs(3_600);

/// Trims the log until `stop`, while the store answers and has all commits whose entries were acknowledged.
pub async fn trim(consumer: &Consumer, stop: &CancellationToken) {
    let mut backoff = Backoff::new(TRIM_EVERY, MAX_TRIM_BACKOFF);
    loop {
        let trimmed = if consumer.is_in_step().await { Some(consumer.log.trim().await) } else { None };
        let next = match trimmed {
            // Commits notice a loss by themselves, so this need not be often.
            None => TRIM_EVERY + backoff.next(),
            Some(Ok(entries)) => {
                metrics::trimmed(entries);
                backoff.reset();
                TRIM_EVERY
            }
            Some(Err(error)) => {
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

/// Adds up the counters of consumers that are gone until `stop`: where replicas get a new name with each start, each
/// would leave rows for every topic.
pub async fn fold_counters(consumer: &Consumer, stop: &CancellationToken) {
    let mut wait = FOLD_FIRST;
    while pause(wait, stop).await {
        wait = FOLD_EVERY;
        let mut names: Vec<_> = match consumer.log.consumers().await {
            Ok(consumers) => consumers.into_iter().map(|consumer| consumer.name).collect(),
            Err(error) => {
                metrics::log_error("consumers", &error);
                continue;
            }
        };
        names.push(consumer.options.shard.clone());
        if let Some(failover) = &consumer.failover {
            failover.forget_marks(&names).await;
        }
        match consumer.store.fold_counters(&names).await {
            Ok(rows) => tracing::debug!(rows, "added up the counters of consumers that are gone"),
            Err(error) => {
                tracing::warn!(%error, "cannot add up the counters of consumers that are gone, trying again in an hour")
            }
        }
    }
}

/// Shows in the metrics what the commits wait for, until `stop`.
pub async fn watch_commits(consumer: &Consumer, stop: &CancellationToken) {
    loop {
        metrics::uncommitted(&consumer.commit_watch);
        metrics::sessions_ended(consumer.store.ended_sessions());
        if !pause(WATCH_EVERY, stop).await {
            return;
        }
    }
}

/// Removes expired receipts, and events older than the retention, until `stop`. A receipt expires after
/// the `Idempotency-Key`'s time to live plus the age of the oldest entry in the log: a consumer group that
/// was lost and created again delivers every such entry a second time, and each must find its receipt. Nothing is
/// removed while the store is behind the log.
pub async fn maintain(
    consumer: &Consumer,
    idempotency_ttl: Duration,
    retention: Option<Duration>,
    conflicts: ConflictLimits,
    stop: &CancellationToken,
) {
    let mut wait = MAINTAIN_EVERY;
    while pause(wait, stop).await {
        wait = MAINTAIN_EVERY;
        if !consumer.is_in_step().await {
            continue;
        }
        let oldest = match consumer.log.backlog().await {
            Ok(backlog) => backlog.oldest.unwrap_or_default(),
            Err(error) => {
                metrics::log_error("backlog", &error);
                continue;
            }
        };
        let maintenance =
            Maintenance { receipts_ttl: idempotency_ttl + oldest, retention, max_duration: MAINTAIN_DURATION };
        match consumer.store.maintain(&maintenance).await {
            Ok(removed) => {
                tracing::debug!(?removed, "removed what has expired");
                metrics::disk_space(consumer.store.receipts_bytes(), consumer.store.stored_bytes());
                wait = wait_after(&removed);
            }
            Err(error) => tracing::warn!(%error, "maintenance failed, trying again in a minute"),
        }
        if let Err(error) = consumer.store.maintain_conflicts(conflicts).await {
            tracing::warn!(%error, "old conflicts were not removed, trying again in a minute");
        }
    }
}

/// Closes partitions of events in time, and has filters of the closed ones, until `stop`. Also while the store is behind
/// the log: a standby that was promoted may have given the numbers of a partition that it has not opened, because a
/// sequence is not part of a transaction. Nothing can be stored again before it is opened.
pub async fn maintain_partitions(
    consumer: &Consumer,
    retention: Option<Duration>,
    every: Duration,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new(every, MAX_PARTITIONS_BACKOFF);
    // At once: until the filters are loaded, all keys are looked up in all partitions.
    let mut wait = Duration::ZERO;
    while pause(wait, stop).await {
        wait = every;
        match consumer.store.maintain_partitions(retention).await {
            Ok(figures) => {
                metrics::partitions(figures);
                backoff.reset();
            }
            Err(error) => {
                wait += backoff.next();
                tracing::warn!(%error, ?wait, "the maintenance of the partitions of events failed, trying again");
            }
        }
    }
}

/// Adds up the series that batches have written, and removes what is older than `retention`, until `stop`.
pub async fn maintain_series(consumer: &Consumer, retention: Duration, stop: &CancellationToken) {
    let mut backoff = Backoff::new(SERIES_EVERY, MAX_SERIES_BACKOFF);
    let mut wait = SERIES_EVERY;
    while pause(wait, stop).await {
        wait = SERIES_EVERY;
        match consumer.store.maintain_series(Some(retention)).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                wait += backoff.next();
                tracing::warn!(%error, ?wait, "the maintenance of the series failed, trying again");
            }
        }
    }
}

/// Adds up what batches have written for meters, and counts events before the cuts of new meters, until `stop`.
pub async fn maintain_meters(consumer: &Consumer, stop: &CancellationToken) {
    let mut backoff = Backoff::new(METERS_EVERY, MAX_SERIES_BACKOFF);
    let mut wait = METERS_EVERY;
    while pause(wait, stop).await {
        wait = METERS_EVERY;
        match consumer.store.maintain_meters().await {
            Ok(figures) => {
                if figures.as_ref().is_some_and(|figures| figures.more) {
                    wait = MAINTAIN_AGAIN;
                }
                metrics::meters(figures.as_ref());
                backoff.reset();
            }
            Err(error) => {
                wait += backoff.next();
                metrics::meter_error();
                tracing::warn!(%error, ?wait, "the maintenance of the meters failed, trying again");
            }
        }
    }
}

/// Returns how long to wait after a call of maintenance: hardly at all while rows are left that have expired.
fn wait_after(removed: &Removed) -> Duration {
    if removed.more { MAINTAIN_AGAIN } else { MAINTAIN_EVERY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_goes_on_at_once_while_its_time_was_not_enough() {
        let removed = |more| Removed { events: 100_000, more, ..Removed::default() };
        assert_eq!(wait_after(&removed(true)), MAINTAIN_AGAIN);
        assert_eq!(wait_after(&removed(false)), MAINTAIN_EVERY);
    }
}
