//! Entries that may be the reason why their reader died: each is tried alone, after an attempt was
//! marked in the store.

use std::time::Duration;

use sluice_event::entry;
use sluice_log::Delivered;
use sluice_service::backoff::Backoff;
use sluice_store::CommitOptions;
use sluice_store::commit::{Batch, commit};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, pause, raw_dead_letter};

/// Deliveries after which an entry is suspected of killing its readers. Outages raise the number
/// too, so it only leads to a closer look.
const SUSPECT_DELIVERIES: u64 = 3;
/// Attempts, each marked in the store beforehand, after which an entry becomes a dead letter.
const MAX_ATTEMPTS: u32 = 3;

/// Of entries delivered before, settles those delivered often, each alone; answers the others.
pub(crate) async fn store_suspects_alone(
    consumer: &Consumer,
    rules: &CommitOptions,
    entries: Vec<Delivered>,
    stop: &CancellationToken,
) -> Vec<Delivered> {
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    let deliveries = match consumer.log.deliveries(&positions).await {
        Ok(deliveries) => deliveries,
        Err(error) => {
            metrics::log_error("deliveries", &error);
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
        consumer.while_extending_claim(&[suspect.position], store_alone(consumer, rules, suspect, stop)).await;
    }
    others
}

/// Tries one entry, having said so in the store: if it kills this process, the next one knows.
async fn store_alone(consumer: &Consumer, rules: &CommitOptions, suspect: &Delivered, stop: &CancellationToken) {
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
    if attempts <= MAX_ATTEMPTS {
        tracing::info!(%position, attempts, "an entry delivered often is tried alone");
        let stored = consumer.store_all(rules, std::slice::from_ref(suspect), Some(position), stop).await;
        return consumer.acknowledge(&stored, stop).await;
    }
    let reason = format!("its reader died in each of {MAX_ATTEMPTS} attempts");
    tracing::error!(%position, reason, "put aside as a dead letter");
    let dead_letters = vec![raw_dead_letter(suspect, "kills_its_reader", &reason)];
    let batch = Batch { dead_letters, attempted: Some(position), ..Batch::default() };
    match commit(&*consumer.store, rules, &batch).await {
        Ok(outcome) => {
            metrics::committed(&outcome);
            if let Err(error) = consumer.log.acknowledge(&[(position, suspect.events)]).await {
                metrics::log_error("acknowledge", &error);
            }
        }
        // It stays pending, and comes again.
        Err(error) => metrics::commit_error(&error),
    }
}
