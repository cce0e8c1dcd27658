//! What replicas leave behind when they die: entries to claim, consumers to remove, and entries
//! that may be the reason of the death.

use std::time::Duration;

use sluice_event::entry;
use sluice_log::Delivered;
use sluice_service::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::consume::{Consumer, pause, raw_letter};
use crate::intake::Taken;
use crate::store::commit::{Batch, Rules, commit};
use crate::telemetry;

/// Entries claimed at once.
const CLAIM_ENTRIES: usize = 32;
/// Deliveries after which an entry is suspected of killing its readers. Outages raise the number
/// too, so that it only leads to a closer look.
const SUSPECT_DELIVERIES: u64 = 3;
/// Attempts, each marked in the store beforehand, after which an entry is put aside.
const MOST_ATTEMPTS: u32 = 3;

/// Claims what other consumers have held for too long, and removes consumers that are gone, until
/// `stop`.
pub async fn recover(consumer: &Consumer, departed_after: Duration, stop: &CancellationToken) {
    let rules = consumer.rules_of("claimed");
    let round = consumer.claim_after / 2;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let next = match consumer.log.claim(consumer.claim_after, CLAIM_ENTRIES).await {
            Ok(claimed) => {
                backoff.reset();
                telemetry::lost(&claimed.lost);
                telemetry::claimed(claimed.entries.len());
                consumer.settle(&rules, Taken { entries: claimed.entries, again: true }, stop).await;
                if claimed.complete {
                    remove_departed(consumer, departed_after).await;
                    round
                } else {
                    Duration::ZERO
                }
            }
            Err(error) => {
                telemetry::log_error("claim", &error);
                backoff.next()
            }
        };
        if !pause(next, stop).await {
            return;
        }
    }
}

async fn remove_departed(consumer: &Consumer, departed_after: Duration) {
    match consumer.log.remove_departed(departed_after).await {
        Ok(names) => names.iter().for_each(|name| tracing::info!(name, "removed a consumer that is gone")),
        Err(error) => telemetry::log_error("remove_departed", &error),
    }
}

/// Of entries delivered before, settles those delivered often, each alone; answers the others.
pub(crate) async fn settle_suspects(
    consumer: &Consumer,
    rules: &Rules,
    entries: Vec<Delivered>,
    stop: &CancellationToken,
) -> Vec<Delivered> {
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    let deliveries = match consumer.log.deliveries(&positions).await {
        Ok(deliveries) => deliveries,
        Err(error) => {
            telemetry::log_error("deliveries", &error);
            Vec::new()
        }
    };
    let mut deliveries = deliveries.into_iter();
    let (suspects, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| {
        let often = deliveries.next().is_some_and(|times| times > SUSPECT_DELIVERIES);
        // One of an unknown version is delivered often because it waits for a newer aggregator.
        often && entry::peek_id(&entry.body).is_some()
    });
    for suspect in &suspects {
        consumer.keeping(&[suspect.position], settle_alone(consumer, rules, suspect, stop)).await;
    }
    others
}

/// Tries one entry, having said so in the store: if it kills this process, the next one knows.
async fn settle_alone(consumer: &Consumer, rules: &Rules, suspect: &Delivered, stop: &CancellationToken) {
    let position = suspect.position;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let attempts = loop {
        match consumer.store.mark_attempt(position).await {
            Ok(attempts) => break attempts,
            Err(error) => tracing::warn!(%error, %position, "cannot mark an attempt, trying again"),
        }
        if !pause(backoff.next(), stop).await {
            return;
        }
    };
    if attempts <= MOST_ATTEMPTS {
        tracing::info!(%position, attempts, "an entry delivered often is tried alone");
        let stored = consumer.store_all(rules, std::slice::from_ref(suspect), Some(position), stop).await;
        return consumer.acknowledge(&stored, stop).await;
    }
    let reason = format!("its reader died in each of {MOST_ATTEMPTS} attempts");
    tracing::error!(%position, reason, "put aside as a dead letter");
    let letters = vec![raw_letter(suspect, "kills_its_reader", &reason)];
    let batch = Batch { letters, attempted: Some(position), ..Batch::default() };
    match commit(&*consumer.store, rules, &batch).await {
        Ok(outcome) => {
            telemetry::committed(&outcome);
            if let Err(error) = consumer.log.acknowledge(&[(position, suspect.events)]).await {
                telemetry::log_error("acknowledge", &error);
            }
        }
        // It stays pending, and comes again.
        Err(error) => telemetry::commit_error(&error),
    }
}
