//! Takes over from replicas that died: claims their pending entries, and removes their consumers from the
//! group.

use std::time::Duration;

use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consume::store_and_acknowledge;
use crate::replica::consumer::{Consumer, pause};
use crate::replica::intake::ReadBatch;

/// The largest number of entries claimed in one step. They are stored in one transaction, apart from
/// suspects.
const CLAIM_ENTRIES: usize = 32;

/// Claims entries that have been pending at another consumer for longer than `claim_after`, and removes
/// consumers that have been idle for `consumer_ttl`, until `stop`. A round over all pending entries begins
/// every half of `claim_after`, so that an entry waits at most half as long again.
pub async fn recover(consumer: &Consumer, consumer_ttl: Duration, stop: &CancellationToken) {
    let options = consumer.options_for("claimed");
    let round_interval = consumer.claim_after / 2;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let next = match consumer.log.claim(consumer.claim_after, CLAIM_ENTRIES).await {
            Ok(claimed) => {
                backoff.reset();
                metrics::lost(&claimed.lost);
                metrics::claimed(claimed.entries.len());
                store_and_acknowledge(
                    consumer,
                    &options,
                    ReadBatch { entries: claimed.entries, redelivered: true },
                    stop,
                )
                .await;
                if claimed.complete {
                    remove_departed(consumer, consumer_ttl).await;
                    round_interval
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
        Ok(names) => {
            names.iter().for_each(|name| tracing::info!(name, "removed a consumer that was idle for too long"))
        }
        Err(error) => metrics::log_error("remove_departed", &error),
    }
}
