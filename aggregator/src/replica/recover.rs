//! Takes over what other replicas leave behind when they die: claims their entries and removes their
//! consumers.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consume::store_and_acknowledge;
use crate::replica::consumer::{Consumer, pause};
use crate::replica::intake::Taken;

/// Entries claimed at once.
const CLAIM_ENTRIES: usize = 32;

/// Claims what other consumers have held for too long, and removes consumers that are gone, until
/// `stop`.
pub async fn recover(consumer: &Consumer, consumer_ttl: Duration, stop: &CancellationToken) {
    let rules = consumer.rules_of("claimed");
    let round = consumer.claim_after / 2;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let next = match consumer.log.claim(consumer.claim_after, CLAIM_ENTRIES).await {
            Ok(claimed) => {
                backoff.reset();
                metrics::lost(&claimed.lost);
                metrics::claimed(claimed.entries.len());
                store_and_acknowledge(consumer, &rules, Taken { entries: claimed.entries, redelivered: true }, stop)
                    .await;
                if claimed.complete {
                    remove_departed(consumer, consumer_ttl).await;
                    round
                } else {
                    Duration::ZERO
                }
            }
            Err(error) => {
                metrics::log_error("claim", &error);
                backoff.next()
            }
        };
        if !pause(next, stop).await {
            return;
        }
    }
}

async fn remove_departed(consumer: &Consumer, consumer_ttl: Duration) {
    match consumer.log.remove_departed(consumer_ttl).await {
        Ok(names) => names.iter().for_each(|name| tracing::info!(name, "removed a consumer that is gone")),
        Err(error) => metrics::log_error("remove_departed", &error),
    }
}
