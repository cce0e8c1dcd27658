//! Stores the entries again that the log still has, after the store has lost commits.
//!
//! All replicas try, and the one that has the lease does it. What it has reached is saved in the log together with the
//! number of the commit, so that the next one continues if this one is killed, and begins again if the store has lost
//! that commit too. The entries take the normal way into the store, where their receipts decide what is new. Nothing is
//! acknowledged: entries that are pending, or were not delivered to anybody yet, are delivered as always, and then
//! skipped by their receipts.

use std::sync::Arc;
use std::time::Duration;

use sluice_log::replay::{PendingReplay, StreamReplay};
use sluice_log::{Delivered, LogError, Position};
use sluice_service::backoff::Backoff;
use sluice_store::marks::{ConfirmedCommits, Number, Numbering};
use sluice_store::{CommitOptions, StoreError};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::replica::consumer::{Consumer, pause};
use crate::replica::failover::{Failover, REPLAY, describe};
use crate::replica::read_size::ReadSize;

/// The time after which another replica goes on with a replay.
const LEASE: Duration = Duration::from_secs(6);
/// How often a replica looks whether the one that replays is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The largest number of entries in one step.
const MAX_ENTRIES: usize = 128;
const BEGINNING: (u64, u64) = (0, 0);

/// Why an attempt to replay ended before its end.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("another replica replays")]
    Elsewhere,
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the store lost what was stored again, or this replica stops")]
    NotStored,
    #[error("entry {0} is of a version that this build does not know: a newer replica has to store it")]
    UnknownVersion(Position),
}

/// Replays until `stop`, whenever the store has lost commits.
pub(crate) async fn replay(consumer: &Consumer, failover: &Failover, stop: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    while failover.wait_until_behind(stop).await {
        let next = match replay_once(consumer, failover, stop).await {
            Ok(()) => {
                backoff.reset();
                failover.compare().await;
                Duration::ZERO
            }
            Err(Interrupted::Elsewhere) => LOOK_EVERY,
            Err(interrupted) => {
                tracing::warn!(reason = %interrupted, "the replay is interrupted, trying again");
                give_back(failover).await;
                backoff.next()
            }
        };
        if !pause(next, stop).await {
            break;
        }
    }
    if !*failover.in_step().borrow() {
        give_back(failover).await;
    }
}

async fn give_back(failover: &Failover) {
    if let Err(error) = failover.log.release_replay().await {
        metrics::log_error("release_replay", &error);
    }
}

/// Replays as the replica that has the lease, as long as it has it.
async fn replay_once(consumer: &Consumer, failover: &Failover, stop: &CancellationToken) -> Result<(), Interrupted> {
    if !failover.log.lease_replay(LEASE).await? {
        return Err(Interrupted::Elsewhere);
    }
    let leased = async {
        let mut ticks = tokio::time::interval(LEASE / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match failover.log.lease_replay(LEASE).await {
                Ok(true) => {}
                Ok(false) => return Interrupted::Elsewhere,
                // Whether it is still ours is unknown; two at a time do no harm.
                Err(error) => metrics::log_error("lease_replay", &error),
            }
        }
    };
    tokio::select! {
        biased;
        done = store_window(consumer, failover, stop) => done,
        lost = leased => Err(lost),
    }
}

async fn store_window(consumer: &Consumer, failover: &Failover, stop: &CancellationToken) -> Result<(), Interrupted> {
    let Some(mut pending) = begun(failover).await? else { return Ok(()) };
    let confirmed = Arc::new(ConfirmedCommits::default());
    resume(failover, &mut pending, &confirmed).await?;
    let numbering = Numbering { worker: REPLAY.to_owned(), confirmed: confirmed.clone(), log: None };
    let options = CommitOptions { numbering: Some(numbering), ..consumer.options_for("replayed") };
    // The cache may hold keys that were lost, if this replica did not find the loss itself.
    failover.store.distrust_connections();
    let mut entries = 0;
    for part in &mut pending.streams {
        entries += store_part(consumer, failover, &options, part, stop).await?;
    }
    let known = confirmed.all();
    failover.store.raise_marks(Number { worker: REPLAY, confirmed: &known }, &pending.marks).await?;
    failover.log.end_replay(&pending).await?;
    failover.log.release_replay().await?;
    if pending.loss.is_covered() {
        tracing::warn!(entries, "the replay has ended: {}", describe(&pending.loss));
    } else {
        tracing::error!(entries, "the replay has ended: {}", describe(&pending.loss));
    }
    Ok(())
}

/// Returns the pending replay, with a part of each stream; `None` if it has ended.
async fn begun(failover: &Failover) -> Result<Option<PendingReplay>, Interrupted> {
    let remembered = failover.log.marks().await?;
    if remembered.replay.is_none() {
        return Ok(None);
    }
    // Whoever found the loss may have been killed before it had begun the replay of each stream.
    let stored = failover.store.marks().await?;
    failover.log.begin_replay(&remembered.marks, stored.last_commit).await?;
    Ok(failover.log.marks().await?.replay)
}

/// Continues where the replay was interrupted, unless the store has lost what was stored again by then.
async fn resume(
    failover: &Failover,
    pending: &mut PendingReplay,
    confirmed: &ConfirmedCommits,
) -> Result<(), Interrupted> {
    let reached = pending.streams.iter().map(|part| part.number).max().unwrap_or(0);
    let stored = failover.store.marks().await?.numbers.get(REPLAY).copied().unwrap_or(0);
    if stored >= reached {
        confirmed.confirm(REPLAY, reached);
        return Ok(());
    }
    tracing::warn!("the store has lost a part of the replay, which begins again");
    for part in &mut pending.streams {
        (part.reached.millis, part.reached.sequence) = BEGINNING;
        part.number = 0;
    }
    Ok(())
}

/// Stores a part of a stream; returns the number of entries.
async fn store_part(
    consumer: &Consumer,
    failover: &Failover,
    options: &CommitOptions,
    part: &mut StreamReplay,
    stop: &CancellationToken,
) -> Result<u64, Interrupted> {
    let mut size = ReadSize::new(MAX_ENTRIES);
    let mut total = 0;
    loop {
        let read = failover.log.read_again(part.reached, part.until, size.entries()).await;
        size.learn(read.as_deref(), consumer.limits.events);
        let entries = read?;
        let Some(last) = entries.last() else { return Ok(total) };
        part.number = store(consumer, options, &entries, stop).await?;
        part.reached = last.position;
        failover.log.save_replay(part).await?;
        metrics::replayed(entries.len());
        total += entries.len() as u64;
    }
}

/// Stores entries; returns the number of the last commit.
async fn store(
    consumer: &Consumer,
    options: &CommitOptions,
    entries: &[Delivered],
    stop: &CancellationToken,
) -> Result<u64, Interrupted> {
    let stored = consumer.store_all(options, entries, None, stop).await;
    let missing = entries.iter().find(|entry| !stored.contains(entry.position));
    match (missing, stored.number()) {
        (None, Some(number)) => Ok(number),
        (Some(entry), Some(_)) => Err(Interrupted::UnknownVersion(entry.position)),
        _ => Err(Interrupted::NotStored),
    }
}
