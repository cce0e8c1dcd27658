//! Notices that the store has lost commits whose entries were acknowledged, and stops commits until they are stored
//! again.
//!
//! The log's marks are compared with the store's before each trim, which is twice a second, before receipts are dropped
//! and before a consumer is removed; and by each commit ([`sluice_store::marks`]). Whoever finds a loss begins a replay
//! in the log, where all replicas see it. Their commits wait until it has ended. One of them does the work
//! ([`super::replay`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_event::Timestamp;
use sluice_log::replay::{LogMarks, Loss, Marks, ReplayLog};
use sluice_store::StoreError;
use sluice_store::marks::{ConfirmedCommits, MarkedStore, Numbering, StoredMarks};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// The name under which a replay numbers its commits. The workers' names have a `/` in them.
pub(crate) const REPLAY: &str = "replay";
/// Marks of workers that are gone are kept for at least this time: a backup that is restored is seldom older.
const MIN_MARKS_TTL: Duration = Duration::from_secs(24 * 3600);

/// A worker acknowledges what it has committed before it commits once or twice more, so a store that is ahead by this
/// many commits has seen a later state of the log.
const MANY_COMMITS: u64 = 100;
const LOG_HAS_LOST: &str = "the log is older than the store: Redis has lost what it had confirmed, and events that were \
     answered with 202 and not stored yet may be lost";
const LOG_IS_OLDER: &str = "the log is older than the receipts: it was restored from a backup, and events whose receipts \
     are gone are counted again, and stored again if retention has removed them";

/// What is known of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has all commits whose entries were acknowledged.
    InStep,
    /// It has lost some, and gets them again.
    Behind,
    /// The log or the store could not be asked.
    Unknown,
}

/// The comparison of one replica.
pub struct Failover {
    pub(crate) log: Arc<dyn ReplayLog>,
    pub(crate) store: Arc<dyn MarkedStore>,
    confirmed: Arc<ConfirmedCommits>,
    /// Whether commits may go on.
    in_step: AtomicBool,
    /// Notifies whenever that changes. Not a watch channel, which wakes its receivers in a random order: then a schedule
    /// of the simulation would not repeat.
    changed: Notify,
    shown: Mutex<Option<LogMarks>>,
    marks_ttl: Duration,
    /// How long receipts are kept.
    receipts_ttl: Duration,
    /// Whether the log was found to be older than the store.
    log_has_lost: AtomicBool,
    /// Whether the log was found to be older than the receipts.
    log_is_older: AtomicBool,
}

impl Failover {
    /// Returns the comparison of this log and this store, whose replay window and receipts last that long.
    pub fn new(log: Arc<dyn ReplayLog>, store: Arc<dyn MarkedStore>, window: Duration, receipts_ttl: Duration) -> Self {
        Self {
            log,
            store,
            confirmed: Arc::default(),
            in_step: AtomicBool::new(true),
            changed: Notify::new(),
            shown: Mutex::default(),
            marks_ttl: MIN_MARKS_TTL.max(window * 2),
            receipts_ttl,
            log_has_lost: AtomicBool::new(false),
            log_is_older: AtomicBool::new(false),
        }
    }

    /// Returns how the commits of a worker are numbered.
    pub(crate) fn numbering(&self, worker: &str) -> Numbering {
        Numbering { worker: worker.to_owned(), confirmed: self.confirmed.clone(), log: Some(self.log.clone()) }
    }

    /// Waits until commits may go on. Returns false when `stop` came first.
    pub(crate) async fn wait_until_in_step(&self, stop: &CancellationToken) -> bool {
        self.wait_for(true, stop).await
    }

    /// Waits until a replay is pending. Returns false when `stop` came first.
    pub(crate) async fn wait_until_behind(&self, stop: &CancellationToken) -> bool {
        self.wait_for(false, stop).await
    }

    /// Returns whether commits may go on, as it is known now.
    pub(crate) fn is_in_step(&self) -> bool {
        self.in_step.load(Ordering::Acquire)
    }

    async fn wait_for(&self, in_step: bool, stop: &CancellationToken) -> bool {
        let reached = async {
            loop {
                // Created before the check: it is notified of what changes after its creation.
                let changed = self.changed.notified();
                if self.is_in_step() == in_step {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = reached => true,
        }
    }

    /// Notes whether commits may go on. Returns whether that was different before.
    fn set_in_step(&self, in_step: bool) -> bool {
        let is_new = self.in_step.swap(in_step, Ordering::AcqRel) != in_step;
        if is_new {
            self.changed.notify_waiters();
        }
        is_new
    }

    /// Compares the log with the store, and begins a replay if the store has lost commits.
    pub async fn compare(&self) -> Standing {
        let remembered = match self.log.marks().await {
            Ok(remembered) => remembered,
            Err(error) => {
                metrics::log_error("marks", &error);
                return Standing::Unknown;
            }
        };
        self.show(&remembered);
        if remembered.replay.is_some() {
            self.set_behind();
            return Standing::Behind;
        }
        let stored = match self.store.marks().await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "cannot compare the store's commits with the log: nothing is trimmed");
                return Standing::Unknown;
            }
        };
        self.check_age_of_log(&remembered, &stored);
        if stored.behind(&remembered.marks).is_empty() {
            self.set_in_step(true);
            return Standing::InStep;
        }
        self.begin(remembered.marks, &stored).await;
        Standing::Behind
    }

    /// Reports a log that has lost what it had confirmed before this program started: it was restored from a backup, or
    /// a server that lacks it became the primary. One that is older than the receipts delivers entries again whose
    /// receipts may be gone.
    fn check_age_of_log(&self, log: &LogMarks, store: &StoredMarks) {
        let is_old = self.receipts_ttl.as_secs();
        // The log forgets workers that are gone before the store does, but never all of them.
        let noted = |worker: &String| log.marks.get(worker).copied().or(log.marks.is_empty().then_some(0));
        let behind = |(worker, stored): &(&String, &u64)| {
            noted(worker).is_some_and(|number| **stored >= number.saturating_add(MANY_COMMITS))
        };
        let Some((worker, stored)) = store.numbers.iter().find(behind) else { return };
        if !self.log_has_lost.swap(true, Ordering::Relaxed) {
            sluice_log::metrics::loss_found();
            tracing::error!(worker, noted = noted(worker), stored, "{LOG_HAS_LOST}");
        }
        let is_older = |(worker, _): &(&String, &u64)| {
            let at = log.acknowledged_at.get(*worker).copied().unwrap_or(u64::MAX);
            (log.now / 1000).saturating_sub(at) > is_old
        };
        let Some((worker, stored)) = store.numbers.iter().filter(behind).find(is_older) else { return };
        if !self.log_is_older.swap(true, Ordering::Relaxed) {
            metrics::log_is_older();
            tracing::error!(worker, noted = noted(worker), stored, "{LOG_IS_OLDER}");
        }
    }

    /// Begins a replay because a commit has found that the store has lost commits.
    pub(crate) async fn found_behind(&self, found: &StoreError) {
        tracing::warn!(error = %found, "a commit was refused");
        match (self.log.marks().await, self.store.marks().await) {
            (Ok(remembered), Ok(stored)) => self.begin(remembered.marks, &stored).await,
            (Err(error), _) => metrics::log_error("marks", &error),
            (_, Err(error)) => tracing::warn!(%error, "cannot read the store's commits"),
        }
    }

    /// Begins a replay, if none is pending. What this process knows to be confirmed is part of what must be there
    /// afterwards: all its entries were delivered before, so the replay has them.
    async fn begin(&self, mut marks: Marks, stored: &StoredMarks) {
        for (worker, number) in self.confirmed.all() {
            let mark = marks.entry(worker).or_default();
            *mark = number.max(*mark);
        }
        match self.log.begin_replay(&marks, stored.last_commit()).await {
            Ok(begun) => {
                self.set_behind();
                if begun {
                    metrics::loss_found();
                    let workers = stored.behind(&marks);
                    tracing::error!(?workers, "the store has lost commits: the replay window is stored again");
                }
            }
            Err(error) => metrics::log_error("begin_replay", &error),
        }
    }

    fn set_behind(&self) {
        if self.set_in_step(false) {
            // A cached key may be one that was lost, and a connection may lead to the former server.
            self.store.distrust_connections();
        }
    }

    /// Notes what the log remembers, for the metrics and for `/readyz`.
    fn show(&self, remembered: &LogMarks) {
        metrics::replay_window(remembered);
        let found = remembered.loss.map_or(0, |loss| loss.detected);
        // A replay that ended before this replica noticed it.
        if !self.confirmed.has_seen(found) {
            self.store.distrust_connections();
            self.confirmed.see(found);
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(remembered.clone());
    }

    /// Returns what `/readyz` says of losses.
    pub fn notes(&self) -> Vec<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(remembered) = shown.as_ref() else { return Vec::new() };
        let pending = remembered.replay.as_ref().map(|_| {
            "the store has lost commits: what the log still has is being stored again, and nothing else meanwhile"
                .to_owned()
        });
        let missing = remembered
            .loss
            .filter(|loss| !loss.is_covered())
            .map(|loss| format!("the store had lost commits at {}: {}", time(Some(loss.detected)), describe(&loss)));
        let lost = self.log_has_lost.load(Ordering::Relaxed).then(|| LOG_HAS_LOST.to_owned());
        let older = self.log_is_older.load(Ordering::Relaxed).then(|| LOG_IS_OLDER.to_owned());
        pending.into_iter().chain(missing).chain(lost).chain(older).collect()
    }

    /// Forgets the marks of workers whose consumers are gone for long. `consumers` are those that are there.
    pub(crate) async fn forget_marks(&self, consumers: &[String]) {
        if self.compare().await != Standing::InStep {
            return;
        }
        let is_there = |worker: &str| {
            worker == REPLAY
                || consumers.iter().any(|name| worker.strip_prefix(&**name).is_some_and(|rest| rest.starts_with('/')))
        };
        let forget = async {
            let gone: Vec<_> = self.log.marks().await?.marks.into_keys().filter(|worker| !is_there(worker)).collect();
            self.log.forget_marks(&gone, self.marks_ttl).await?;
            // From the store only after the log: a mark that only the log has means a loss.
            self.log.marks().await
        };
        let in_log = match forget.await {
            Ok(remembered) => remembered.marks,
            Err(error) => return metrics::log_error("forget_marks", &error),
        };
        let forget = async {
            let stored = self.store.marks().await?.numbers;
            let kept = stored.into_keys().filter(|worker| is_there(worker) || in_log.contains_key(worker));
            self.store.forget_marks(&kept.collect::<Vec<_>>(), self.marks_ttl).await
        };
        match forget.await {
            Ok(workers) => tracing::debug!(workers, "forgot the marks of workers that are gone"),
            Err(error) => tracing::warn!(%error, "cannot forget the marks of workers that are gone"),
        }
    }
}

/// Says in words what may be missing after a loss.
pub(crate) fn describe(loss: &Loss) -> String {
    if loss.is_covered() {
        return format!(
            "nothing is missing, because the log had everything since {}, and the store's last commit is of {}",
            time(loss.covered_since),
            time(loss.survived)
        );
    }
    let from = loss.survived.map_or_else(|| "the beginning".to_owned(), |millis| time(Some(millis)));
    let until = loss.covered_since.map_or_else(|| "the loss was found".to_owned(), |millis| time(Some(millis)));
    format!("events that were stored from {from} until {until} may be missing")
}

fn time(millis: Option<u64>) -> String {
    let micros = millis.and_then(|millis| i64::try_from(millis).ok()?.checked_mul(1000));
    micros.and_then(Timestamp::from_micros).map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_loss_says_from_when_until_when_events_may_be_missing() {
        let loss = |survived, covered_since| Loss { detected: 5 * HOUR, survived, covered_since };
        let nothing = describe(&loss(Some(3 * HOUR), Some(2 * HOUR)));
        assert!(nothing.starts_with("nothing is missing") && nothing.contains("1970-01-01T02:00:00"), "{nothing}");
        let part = describe(&loss(Some(HOUR), Some(2 * HOUR)));
        assert!(part.contains("from 1970-01-01T01:00:00") && part.contains("until 1970-01-01T02:00:00"), "{part}");
        assert!(describe(&loss(None, Some(HOUR))).contains("from the beginning"));
        assert!(describe(&loss(Some(HOUR), None)).contains("until the loss was found"));
    }
}
