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
use crate::replica::consumer::{Acknowledgeable, Consumer, pause};
use crate::replica::failover::{Failover, REPLAY, describe};
use crate::replica::read_size::ReadSize;
use crate::replica::suspects::{self, MAX_ATTEMPTS};

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
    if !failover.is_in_step() {
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
    // Before anything is stored again: the numbers of what is lost are given again.
    failover.store.begin_feed_generation(Some(pending.loss.detected)).await?;
    resume(failover, &mut pending, &confirmed).await?;
    let numbering = Numbering { worker: REPLAY.to_owned(), confirmed: confirmed.clone(), log: None };
    let options = CommitOptions { numbering: Some(numbering), ..consumer.options_for("replayed") };
    // The cache may hold keys that were lost, if this replica did not find the loss itself.
    failover.store.distrust_connections();
    let mut entries = 0;
    for part in &mut pending.streams {
        entries += store_part(consumer, failover, &options, part, stop).await?;
    }
    // The store may have lost more in the meantime, also commits from before the first loss.
    let survived = failover.store.marks().await?.last_commit_of_others(REPLAY);
    pending.loss.survived = pending.loss.survived.min(survived);
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
    failover.log.begin_replay(&remembered.marks, stored.last_commit()).await?;
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
    failover.store.begin_feed_generation(None).await?;
    // Saved for all streams before anything is stored: a new commit has the number of one that was lost, so whoever
    // continues could not tell any more that what was saved with this number is lost.
    for part in &mut pending.streams {
        (part.reached.millis, part.reached.sequence) = BEGINNING;
        part.number = 0;
        failover.log.save_replay(part).await?;
    }
    Ok(())
}

/// Stores a part of a stream; returns the number of entries.
///
/// An entry that kills its reader would kill each replica in turn, and nothing else is stored meanwhile. Therefore an
/// attempt is marked in the store before each step. Where a step begins that was attempted before, its entries are
/// stored one by one, and one that has killed its reader several times becomes a dead letter.
async fn store_part(
    consumer: &Consumer,
    failover: &Failover,
    options: &CommitOptions,
    part: &mut StreamReplay,
    stop: &CancellationToken,
) -> Result<u64, Interrupted> {
    let mut size = ReadSize::new(MAX_ENTRIES);
    let (mut total, mut one_by_one) = (0, 0);
    loop {
        let entries = if one_by_one > 0 { 1 } else { size.entries() };
        let read = failover.log.read_again(part.reached, part.until, entries).await;
        size.learn(read.as_deref(), consumer.limits.events);
        let mut entries = read?;
        let Some(first) = entries.first().map(|entry| entry.position) else { return Ok(total) };
        let mut stored = None;
        if one_by_one == 0 {
            if suspects::mark(consumer, first, stop).await.ok_or(Interrupted::NotStored)? == 1 {
                stored = Some(store(consumer, options, &entries, stop).await);
            } else {
                one_by_one = MAX_ENTRIES;
            }
            suspects::unmark(consumer, first).await;
        }
        part.number = match stored {
            Some(stored) => stored?,
            None => {
                one_by_one -= 1;
                entries.truncate(1);
                // The first attempt was not made with this entry alone.
                let stored = suspects::attempt(consumer, options, &entries[0], MAX_ATTEMPTS + 1, stop).await;
                number(&entries, &stored)?
            }
        };
        part.reached = entries.last().map_or(first, |last| last.position);
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
    number(entries, &stored)
}

/// Returns the number of the last commit of these entries.
fn number(entries: &[Delivered], stored: &Acknowledgeable) -> Result<u64, Interrupted> {
    let missing = entries.iter().find(|entry| !stored.contains(entry.position));
    match (missing, stored.number()) {
        (None, Some(number)) => Ok(number),
        (Some(entry), Some(_)) => Err(Interrupted::UnknownVersion(entry.position)),
        _ => Err(Interrupted::NotStored),
    }
}
