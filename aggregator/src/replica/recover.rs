//! Takes over from replicas that died: claims their pending entries, and removes their consumers from the
//! group.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_log::Delivered;
use sluice_service::backoff::Backoff;
use sluice_store::CommitOptions;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::batch_cut::take_batch;
use crate::replica::consume::store_and_acknowledge;
use crate::replica::consumer::{Consumer, pause};
use crate::replica::intake::ReadBatch;
use crate::replica::read_size::ReadSize;

/// The largest number of entries claimed in one step.
const CLAIM_ENTRIES: usize = 32;

/// Claims entries that have been pending at another consumer for longer than `claim_after`, and removes
/// consumers that have been idle for `consumer_ttl`, until `stop`. A round over all pending entries begins
/// every half of `claim_after`, so that an entry waits at most half as long again.
pub async fn recover(consumer: &Consumer, consumer_ttl: Duration, stop: &CancellationToken) {
    let options = consumer.options_for("claimed");
    let round_interval = consumer.claim_after / 2;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut read_size = ReadSize::new(CLAIM_ENTRIES);
    loop {
        let claimed = consumer.log.claim(consumer.claim_after, read_size.entries()).await;
        read_size.learn(claimed.as_ref().map(|claimed| &*claimed.entries), consumer.limits.events);
        let next = match claimed {
            Ok(claimed) => {
                backoff.reset();
                metrics::claimed(claimed.entries.len());
                store_claimed(consumer, &options, claimed.entries, stop).await;
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

/// Stores and acknowledges claimed entries, in batches like all others.
async fn store_claimed(
    consumer: &Consumer,
    options: &CommitOptions,
    entries: Vec<Delivered>,
    stop: &CancellationToken,
) {
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    let mut queue = VecDeque::from(entries);
    let storing = async {
        loop {
            let entries = take_batch(&mut queue, consumer.limits.events);
            if entries.is_empty() {
                return;
            }
            store_and_acknowledge(consumer, options, ReadBatch { entries, redelivered: true }, stop).await;
        }
    };
    consumer.while_extending_claim(&positions, storing).await;
}

async fn remove_departed(consumer: &Consumer, consumer_ttl: Duration) {
    // What it has acknowledged must be in the store before it is forgotten.
    if !consumer.is_in_step().await {
        return;
    }
    match consumer.log.remove_departed(consumer_ttl).await {
        Ok(names) => {
            names.iter().for_each(|name| tracing::info!(name, "removed a consumer that was idle for too long"))
        }
        Err(error) => metrics::log_error("remove_departed", &error),
    }
}
