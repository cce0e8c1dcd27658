//! Quarantines entries that may have killed the replicas that read them. Each is stored in a transaction of
//! its own, after the attempt was marked in the store: if the process dies, the next reader finds the mark.
//! After a few marked attempts the entry becomes a dead letter.

use std::time::Duration;

use sluice_event::{compressed, entry};
use sluice_log::{Delivered, Position};
use sluice_service::backoff::Backoff;
use sluice_store::CommitOptions;
use sluice_store::commit::{Batch, commit};
use sluice_store::inspect::KILLS_ITS_READER;
use sluice_store::put_aside::KeyedRequest;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Acknowledgeable, Consumer, pause, put_aside};

/// The number of deliveries above which an entry is suspected. Outages raise the number too, so by itself it
/// never makes an entry a dead letter.
const SUSPECT_DELIVERIES: u64 = 3;
/// The number of attempts, each marked in the store beforehand, after which an entry becomes a dead letter.
pub(crate) const MAX_ATTEMPTS: u32 = 3;
/// The longest that a stopping replica waits until a mark is taken back.
const UNMARK_TIMEOUT: Duration = Duration::from_secs(2);

/// Stores each suspect among redelivered entries alone, and acknowledges it. Returns the other entries.
pub(crate) async fn store_suspects_alone(
    consumer: &Consumer,
    options: &CommitOptions,
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
        // An entry of an unknown version is delivered often because it waits for a newer aggregator.
        often && entry::peek_id(&entry.body).is_some()
    });
    for suspect in &suspects {
        consumer.while_extending_claim(&[suspect.position], store_alone(consumer, options, suspect, stop)).await;
    }
    others
}

/// Takes the mark of an attempt back that ended without a commit, because the replica stops or the store failed: the
/// entry did not kill its reader. If the store does not do so in time, the mark stays.
pub(crate) async fn unmark(consumer: &Consumer, position: Position) {
    match tokio::time::timeout(UNMARK_TIMEOUT, consumer.store.unmark_attempt(position)).await {
        Ok(Ok(())) => tracing::debug!(%position, "took the mark of an attempt back"),
        Ok(Err(error)) => tracing::warn!(%error, %position, "cannot take the mark of an attempt back"),
        Err(_) => tracing::warn!(%position, "could not take the mark of an attempt back in time"),
    }
}

/// Marks an attempt in the store, then stores the entry and acknowledges it; it becomes a dead letter after too many
/// attempts.
async fn store_alone(consumer: &Consumer, options: &CommitOptions, suspect: &Delivered, stop: &CancellationToken) {
    if consumer.may_commit(options, stop).await {
        let stored = attempt(consumer, options, suspect, MAX_ATTEMPTS, stop).await;
        consumer.acknowledge(&stored, stop).await;
    }
}

/// Marks an attempt to store what begins with the entry at this position. Repeats until it succeeds, and returns the
/// number of attempts; `None` once `stop` is cancelled.
pub(crate) async fn mark(consumer: &Consumer, position: Position, stop: &CancellationToken) -> Option<u32> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        match consumer.store.mark_attempt(position).await {
            Ok(attempts) => return Some(attempts),
            Err(error) => tracing::warn!(%error, %position, "cannot mark an attempt, trying again"),
        }
        if !pause(backoff.next(), stop).await {
            return None;
        }
    }
}

/// Marks an attempt in the store, then stores the entry; it becomes a dead letter after `max_attempts`. Returns the
/// entry if it is stored.
pub(crate) async fn attempt(
    consumer: &Consumer,
    options: &CommitOptions,
    suspect: &Delivered,
    max_attempts: u32,
    stop: &CancellationToken,
) -> Acknowledgeable {
    let position = suspect.position;
    let Some(attempts) = mark(consumer, position, stop).await else { return Acknowledgeable::default() };
    if attempts <= max_attempts {
        tracing::info!(%position, attempts, "the entry may have killed its reader and is stored alone");
        let stored = consumer.store_all(options, std::slice::from_ref(suspect), Some(position), stop).await;
        if stored.is_empty() {
            unmark(consumer, position).await;
        }
        return stored;
    }
    let reason = format!("its reader died in each of {max_attempts} attempts");
    tracing::error!(%position, reason, "the entry becomes a dead letter");
    // The keys of its requests are stored with it, so that a request that is sent again is recognised. Reading them is
    // one more attempt: if the process dies of that too, the entry is put aside without them.
    let keyed = if attempts == max_attempts + 1 { keyed_requests(suspect) } else { None };
    let dead_letters = vec![put_aside(suspect, KILLS_ITS_READER, &reason, keyed)];
    let batch = Batch { dead_letters, attempted: Some(position), ..Batch::default() };
    match commit(&*consumer.store, options, &batch).await {
        Ok(outcome) => {
            metrics::committed(&outcome);
            Acknowledgeable::new(vec![(position, suspect.events)], options, outcome.number)
        }
        // The entry stays pending and will be delivered again.
        Err(error) => {
            metrics::commit_error(&error);
            unmark(consumer, position).await;
            Acknowledgeable::default()
        }
    }
}

fn keyed_requests(suspect: &Delivered) -> Option<Vec<KeyedRequest>> {
    let body = compressed::expand(&suspect.body).ok()?;
    entry::decode(&body).ok().map(|entry| KeyedRequest::all_of(&entry))
}
