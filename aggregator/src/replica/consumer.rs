//! One replica's consumer of the consumer group: decodes, commits and acknowledges entries, for the
//! workers as well as for recovery.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sluice_event::entry::{self, CHECKED, DecodeError};
use sluice_event::key::hash128_of_parts;
use sluice_event::{EntryId, compressed};
use sluice_log::replay::CommitMark;
use sluice_log::{Delivered, LogReader, Position};
use sluice_service::backoff::Backoff;
use sluice_store::commit::{Batch, MAX_BATCH_EVENTS, commit, events_of};
use sluice_store::put_aside::{KeyedRequest, PutAside};
use sluice_store::{CommitOptions, NewDeadLetter, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::latency::Latency;
use crate::metrics;
use crate::replica::batch_size::AdaptiveBatchSize;
use crate::replica::batch_trace::BatchTrace;
use crate::replica::commit_watch::{CommitWatch, STUCK_AFTER, WatchedBatch};
use crate::replica::failover::{Failover, Standing};
use crate::replica::intake::{BatchLimits, Intake};

/// One consumer of the consumer group. The workers of a replica share it.
pub struct Consumer {
    /// The log that is read.
    pub log: Arc<dyn LogReader>,
    /// The store that events are committed to.
    pub store: Arc<dyn Store>,
    /// How events are stored. Each worker replaces the shard by one of its own.
    pub options: CommitOptions,
    /// How long an entry may be pending before another replica claims it.
    pub claim_after: Duration,
    /// What the commits wait for.
    pub commit_watch: Arc<CommitWatch>,
    /// Notices that the store has lost commits; `None` where the log and the store are on one disk.
    pub failover: Option<Arc<Failover>>,
    /// How long the events took that it stored.
    pub(crate) latency: Arc<Latency>,
    pub(crate) limits: BatchLimits,
    pub(crate) batch_size: AdaptiveBatchSize,
    pub(crate) intake: Mutex<Intake>,
}

impl Consumer {
    /// Returns a consumer that has not read anything yet.
    pub fn new(
        log: Arc<dyn LogReader>,
        store: Arc<dyn Store>,
        options: CommitOptions,
        limits: BatchLimits,
        claim_after: Duration,
    ) -> Self {
        let batch_size = AdaptiveBatchSize::new(limits.events);
        let intake = Mutex::new(Intake::new(log.clone(), limits));
        let (commit_watch, latency, failover) = (Arc::default(), Arc::default(), None);
        Self { log, store, options, claim_after, commit_watch, failover, latency, limits, batch_size, intake }
    }

    /// Numbers the commits, so that a store that has lost some is noticed.
    pub fn with_failover(self, failover: Arc<Failover>) -> Self {
        Self { failover: Some(failover), ..self }
    }

    /// Returns the options of one worker, with a shard of its own: two transactions that add to the same
    /// counters would wait for each other.
    pub(crate) fn options_for(&self, worker: &str) -> CommitOptions {
        let shard = format!("{}/{worker}", self.options.shard);
        let numbering = self.failover.as_ref().map(|failover| failover.numbering(&shard));
        CommitOptions { shard, numbering, ..self.options.clone() }
    }

    /// Returns whether anything may be given up that a replay would need: the store was asked just now, and has all
    /// commits whose entries were acknowledged.
    pub(crate) async fn is_in_step(&self) -> bool {
        match &self.failover {
            Some(failover) => failover.compare().await == Standing::InStep,
            None => true,
        }
    }

    /// Waits while the store gets back what it has lost, unless it is the replay itself that commits. Returns false
    /// when `stop` came first.
    pub(crate) async fn may_commit(&self, options: &CommitOptions, stop: &CancellationToken) -> bool {
        match &self.failover {
            Some(failover) if !is_replay(options) => failover.wait_until_in_step(stop).await,
            _ => true,
        }
    }

    /// Stores entries: in one transaction, or in several if that takes too long. The transaction also removes the
    /// marked attempts of `attempted`. Returns the entries to acknowledge: not all when `stop` came first.
    pub(crate) async fn store_all(
        &self,
        options: &CommitOptions,
        entries: &[Delivered],
        attempted: Option<Position>,
        stop: &CancellationToken,
    ) -> Acknowledgeable {
        let mut stored = Acknowledgeable::default();
        let watched = self.commit_watch.begin();
        // Parts that are still to be stored, the next one last.
        let mut parts = vec![entries];
        while let Some(part) = parts.pop() {
            match self.store_part(options, part, attempted, &watched, stop).await {
                Commit::Done(acknowledgeable) => {
                    watched.progressed();
                    stored.add(acknowledgeable);
                }
                Commit::Halve => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                // The entries stay pending. This replica reads them again when it starts, or another one claims
                // them.
                Commit::Stopped => break,
            }
        }
        stored
    }

    async fn store_part(
        &self,
        options: &CommitOptions,
        entries: &[Delivered],
        attempted: Option<Position>,
        watched: &WatchedBatch<'_>,
        stop: &CancellationToken,
    ) -> Commit {
        let bodies: Vec<_> = entries.iter().map(|entry| compressed::expand(&entry.body)).collect();
        let (batch, acknowledgeable) = decode(entries, &bodies, attempted);
        if acknowledgeable.is_empty() {
            return Commit::Done(Acknowledgeable::default());
        }
        // The number of events that an entry was appended with is outside of its body, and may be wrong.
        if batch.events() > MAX_BATCH_EVENTS && entries.len() > 1 {
            return Commit::Halve;
        }
        let mut trace = BatchTrace::begin(&batch);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            if !self.may_commit(options, stop).await {
                return Commit::Stopped;
            }
            let began = Instant::now();
            let error = match commit(&*self.store, options, &batch).await {
                Ok(outcome) => {
                    metrics::commit_time(began.elapsed());
                    metrics::committed(&outcome);
                    // What was stored before and is delivered again did not take so long.
                    if outcome.skipped == 0 && !is_replay(options) {
                        self.latency.record(&batch);
                    }
                    self.batch_size.learn(&outcome.counts);
                    if let Some(trace) = trace {
                        trace.end(options, &batch, &outcome);
                    }
                    return Commit::Done(Acknowledgeable::new(acknowledgeable, options, outcome.number));
                }
                Err(error) => error,
            };
            metrics::commit_error(&error);
            match &self.failover {
                // It begins again, from where the store still has it.
                Some(_) if is_replay(options) && matches!(error, StoreError::Behind(_)) => return Commit::Stopped,
                Some(failover) if matches!(error, StoreError::Behind(_)) => failover.found_behind(&error).await,
                _ => {}
            }
            let trace_id = trace.as_ref().and_then(BatchTrace::id);
            report(&error, watched.failed(&error), entries.len(), trace_id);
            if let Some(trace) = &mut trace {
                trace.retry(&error);
            }
            if entries.len() > 1 && self.took_too_long(&error, began.elapsed()) {
                tracing::warn!(entries = entries.len(), "the batch takes too long and is stored in two halves");
                return Commit::Halve;
            }
            // It never gives up by itself: without its store the replica can do nothing else. Repeating is safe,
            // because receipts make it idempotent.
            if !pause(backoff.next(), stop).await {
                return Commit::Stopped;
            }
        }
    }

    /// Returns whether a transaction failed because it has too much to do: it would fail again. The store ends a
    /// statement that takes too long; over a slow connection this replica gives up itself, after half of the claim
    /// time.
    fn took_too_long(&self, error: &StoreError, time: Duration) -> bool {
        match error {
            StoreError::TooSlow(_) => true,
            StoreError::Unavailable(_) => time >= self.claim_after / 2,
            _ => false,
        }
    }

    /// Acknowledges stored entries, and repeats until it succeeds or `stop` is cancelled.
    pub(crate) async fn acknowledge(&self, stored: &Acknowledgeable, stop: &CancellationToken) {
        let Acknowledgeable { done, mark } = stored;
        if done.is_empty() {
            return;
        }
        let acknowledge = async || match mark {
            Some(mark) => self.log.acknowledge_commit(done, mark).await,
            None => self.log.acknowledge(done).await,
        };
        let positions: Vec<_> = done.iter().map(|(position, _)| *position).collect();
        let acknowledged = async {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
            while let Err(error) = acknowledge().await {
                metrics::log_error("acknowledge", &error);
                if !pause(backoff.next(), stop).await {
                    return; // Delivered again, the entries are skipped by their receipts.
                }
            }
        };
        self.while_extending_claim(&positions, acknowledged).await;
    }

    /// Runs `work` and meanwhile extends this consumer's claim of the entries three times per
    /// `claim_after`, so that no other replica claims them.
    pub(crate) async fn while_extending_claim<T>(&self, positions: &[Position], work: impl Future<Output = T>) -> T {
        let refresh = async {
            let mut ticks = tokio::time::interval(self.claim_after / 3);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                if let Err(error) = self.log.extend_claim(positions).await {
                    metrics::log_error("extend_claim", &error);
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = refresh => never,
        }
    }
}

/// The result of storing entries in one transaction.
enum Commit {
    /// They are stored, and these may be acknowledged.
    Done(Acknowledgeable),
    /// They have to be stored in two transactions.
    Halve,
    /// `stop` was cancelled before they were stored.
    Stopped,
}

/// Logs a commit that failed and is repeated, with the number of failures in a row, the age of the batch and its first trace.
fn report(error: &StoreError, (failures, age): (u32, Duration), entries: usize, trace_id: Option<String>) {
    let may_pass = matches!(error, StoreError::Conflict(_) | StoreError::TooSlow(_));
    let age_seconds = age.as_secs();
    if may_pass && failures < STUCK_AFTER {
        tracing::debug!(%error, entries, failures, age_seconds, trace_id, "cannot commit, trying again");
    } else {
        tracing::warn!(%error, entries, failures, age_seconds, trace_id, "cannot commit, trying again");
    }
}

/// Returns whether these are the options of a replay: it stores what the store has lost.
fn is_replay(options: &CommitOptions) -> bool {
    options.numbering.as_ref().is_some_and(|numbering| numbering.log.is_none())
}

/// Entries that may be acknowledged because their batch is committed, each with its number of events.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgeable {
    done: Vec<(Position, u64)>,
    /// The last of the commits that stored them.
    mark: Option<CommitMark>,
}

impl Acknowledgeable {
    /// Returns the entries of the commit with this number.
    pub fn new(done: Vec<(Position, u64)>, options: &CommitOptions, number: Option<u64>) -> Self {
        let numbering = options.numbering.as_ref().zip(number);
        let mark = numbering.map(|(numbering, number)| CommitMark { worker: numbering.worker.clone(), number });
        Self { done, mark }
    }

    /// Returns whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Returns the number of the last commit.
    pub fn number(&self) -> Option<u64> {
        self.mark.as_ref().map(|mark| mark.number)
    }

    /// Returns whether an entry is stored.
    pub fn contains(&self, position: Position) -> bool {
        self.done.iter().any(|(stored, _)| *stored == position)
    }

    /// Adds what the next commit of the same worker has stored.
    fn add(&mut self, Self { done, mark }: Self) {
        self.done.extend(done);
        self.mark = mark.or(self.mark.take());
    }
}

/// Sleeps for `time`, or until `stop` is cancelled. Returns whether to go on: false once it is cancelled.
pub(crate) async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Decodes entries from their expanded bodies. Returns the batch, and the entries that may be acknowledged
/// once it is committed. An entry that is damaged or cannot be decoded becomes a dead letter of the batch; one of a
/// version that is newer than this build is left pending for a newer aggregator.
fn decode<'a>(
    entries: &[Delivered],
    bodies: &'a [Result<Cow<'_, [u8]>, DecodeError>],
    attempted: Option<Position>,
) -> (Batch<'a>, Vec<(Position, u64)>) {
    let mut batch = Batch { attempted, ..Batch::default() };
    let mut acknowledgeable = Vec::with_capacity(entries.len());
    for (delivered, body) in entries.iter().zip(bodies) {
        let position = delivered.position;
        match body.as_ref().map_err(DecodeError::clone).and_then(|body| entry::decode(body)) {
            Ok(entry) if events_of(&entry) > MAX_BATCH_EVENTS => {
                let reason = format!("it has more than {MAX_BATCH_EVENTS} events, which no transaction may store");
                tracing::error!(%position, reason, "the entry becomes a dead letter");
                let keyed = Some(KeyedRequest::all_of(&entry));
                batch.dead_letters.push(put_aside(delivered, "undecodable", &reason, keyed));
            }
            Ok(entry) => batch.entries.push((position, entry)),
            Err(error @ DecodeError::UnknownVersion(_)) => {
                metrics::unknown_version();
                tracing::error!(%position, %error, "the entry is left pending: upgrade the aggregators before the publishers");
                continue;
            }
            Err(error @ DecodeError::Damaged) => {
                metrics::damaged_entry();
                tracing::error!(%position, events = delivered.events, %error, "the entry becomes a dead letter");
                let dead_letter = put_aside(delivered, "damaged", &error.to_string(), None);
                batch.dead_letters.push(PutAside { entry: Some(id_of_damaged(delivered)), ..dead_letter });
            }
            Err(error @ DecodeError::Corrupt(_)) => {
                tracing::error!(%position, %error, "the entry becomes a dead letter");
                let mut dead_letter = put_aside(delivered, "undecodable", &error.to_string(), None);
                // Without a checksum it is not known whether its writer or the disk is wrong.
                if delivered.body.first().is_none_or(|version| *version < CHECKED) {
                    dead_letter.entry = Some(id_of_damaged(delivered));
                }
                batch.dead_letters.push(dead_letter);
            }
        }
        acknowledgeable.push((position, delivered.events));
    }
    (batch, acknowledgeable)
}

/// Returns the id whose receipt says that this damaged entry was stored as a dead letter. The id in its bytes may be
/// damaged too; and if it is not, the entry may have been appended a second time under it, and that one is intact and
/// must be stored.
fn id_of_damaged(delivered: &Delivered) -> EntryId {
    let position = delivered.position.to_string();
    EntryId::from_bytes(hash128_of_parts(&[b"damaged", position.as_bytes(), &delivered.body]))
}

/// Returns a whole entry as a dead letter, with the entry's id where its header can be read, and its requests with an
/// `Idempotency-Key` where they can be read.
pub(crate) fn put_aside(delivered: &Delivered, code: &str, reason: &str, keyed: Option<Vec<KeyedRequest>>) -> PutAside {
    let dead_letter = NewDeadLetter {
        position: delivered.position,
        event: None,
        events: delivered.events,
        code: code.to_owned(),
        reason: reason.to_owned(),
        body: delivered.body.to_vec(),
        receipts: None,
    };
    PutAside { dead_letter, entry: entry::peek_id(&delivered.body), keyed }
}

#[cfg(test)]
mod tests {
    use sluice_event::Timestamp;
    use sluice_event::entry::{PackedRequest, VERSION};
    use sluice_event::{EntryId, RequestId};

    use super::*;

    fn delivered(body: Vec<u8>, sequence: u64) -> Delivered {
        Delivered { position: Position { stream: 0, millis: 1, sequence }, body: body.into(), events: 0 }
    }

    /// The publisher appends an entry again if it got no answer. If one of the two is damaged, the other must be stored.
    #[test]
    fn a_damaged_entry_is_put_aside_under_an_id_of_its_own_which_is_the_same_at_each_delivery() {
        let request = PackedRequest::new(RequestId::random(), None, Timestamp::now(), &[]);
        let intact = compressed::pack(EntryId::random(), [request].iter());
        let mut damaged = intact.body.clone();
        damaged[20] ^= 1;
        // The version that this byte says now has no checksum.
        let mut as_version_1 = intact.body.clone();
        as_version_1[0] = VERSION;
        let entries = [
            delivered(intact.body, 1),
            delivered(damaged.clone(), 2),
            delivered(damaged.clone(), 2),
            delivered(damaged, 3),
            delivered(as_version_1, 4),
        ];
        let bodies: Vec<_> = entries.iter().map(|entry| compressed::expand(&entry.body)).collect();
        let (batch, acknowledgeable) = decode(&entries, &bodies, None);
        assert_eq!((batch.entries.len(), acknowledgeable.len()), (1, 5));
        let [first, again, other, as_version_1] = &batch.dead_letters[..] else { panic!("{:?}", batch.dead_letters) };
        assert_eq!((&*first.dead_letter.code, &first.dead_letter.body[..]), ("damaged", &entries[1].body[..]));
        assert_eq!(first.entry, again.entry);
        assert!(first.entry != other.entry && first.entry != Some(intact.id) && first.entry.is_some());
        assert_eq!(&*as_version_1.dead_letter.code, "undecodable");
        assert!(as_version_1.entry.is_some_and(|id| id != intact.id), "the intact one is stored under that id");
    }
}
