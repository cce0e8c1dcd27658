//! Stores a batch in one transaction: receipts, events, counters and dead letters. The effect is exactly
//! once, whichever process is killed, because a repetition of any part finds its receipt.

use std::collections::HashSet;
use std::time::Duration;

use sluice_event::entry::{self, DecodeError, Entry};
use sluice_event::{ReceiptId, compressed};
use sluice_log::Position;

use crate::arrivals::{Arrivals, Tally};
use crate::ledger::{LedgerKind, LedgerRow, Skipped, position_receipt};
use crate::marks::{Number, Numbering, compare};
use crate::outcomes::RequestOutcome;
use crate::put_aside::PutAside;
use crate::series::{Minute, SeriesCounts};
use crate::{CommitOptions, Counts, DeadLetter, NewDeadLetter, Store, StoreError, Transaction};

/// The longest that a replay waits for another one.
const REPLAY_WAIT: Duration = Duration::from_secs(5);

/// Decoded entries, and entries to dead-letter together with them.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Entries in stream order, each with its position.
    pub entries: Vec<(Position, Entry<'a>)>,
    /// Whole entries to dead-letter: those that cannot be decoded or kill their reader.
    pub dead_letters: Vec<PutAside>,
    /// The entry whose marks of attempts are deleted when the batch is committed.
    pub attempted: Option<Position>,
}

/// The largest number of events in a batch. Their numbers in the order of arrival (`seq`) have 20 bits within a batch:
/// events that shared a number would be skipped by a client that lists them in pages.
pub const MAX_BATCH_EVENTS: usize = 1 << 20;

impl Batch<'_> {
    /// Returns the number of events in its entries.
    pub fn events(&self) -> usize {
        self.entries.iter().map(|(_, entry)| events_of(entry)).sum()
    }
}

/// Returns the number of events in an entry, as it was decoded.
pub fn events_of(entry: &Entry<'_>) -> usize {
    entry.requests.iter().map(|request| request.events.len()).sum()
}

/// The result of a committed batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The sum of the counts of all topics.
    pub counts: Counts,
    /// Number of dead-lettered events.
    pub dead_lettered: u64,
    /// Number of entries and requests skipped because their receipt was stored already.
    pub skipped: u64,
    /// The number of the commit, if commits are numbered.
    pub number: Option<u64>,
}

/// Stores a batch in one transaction. Events that the store refuses are dead-lettered.
///
/// # Errors
/// Any but [`StoreError::Refused`]. Then the batch was not stored, or the outcome is unknown; repeating it is
/// safe in both cases.
pub async fn commit(store: &dyn Store, options: &CommitOptions, batch: &Batch<'_>) -> Result<Outcome, StoreError> {
    if batch.events() > MAX_BATCH_EVENTS {
        return Err(StoreError::Failed(format!("a batch of more than {MAX_BATCH_EVENTS} events is never stored")));
    }
    match attempt(store, options, batch, false).await {
        // Each savepoint costs a round trip, so they are only set after a row was refused.
        Err(StoreError::Refused { code, message }) => {
            tracing::warn!(code, message, "the store refuses data of this batch: isolating it");
            attempt(store, options, batch, true).await
        }
        other => other,
    }
}

/// Deletes a dead letter and stores the events in it, in one transaction. Returns `None` if there is no such
/// dead letter.
///
/// # Errors
/// [`StoreError::Refused`] if the store still refuses the events or the entry cannot be decoded: then the dead
/// letter is unchanged. Others as for [`commit`].
pub async fn replay(store: &dyn Store, options: &CommitOptions, id: i64) -> Result<Option<Outcome>, StoreError> {
    // On a connection for queries: a request for a dead letter that does not exist, or that cannot be decoded, must not
    // take a connection from the commits.
    let Some(stored) = dead_letter(store, id).await? else { return Ok(None) };
    let undecodable =
        |error: DecodeError| StoreError::Refused { code: "undecodable".into(), message: error.to_string() };
    let body = compressed::expand(&stored.content.body).map_err(undecodable)?;
    let entry = entry::decode(&body).map_err(undecodable)?;
    if events_of(&entry) > MAX_BATCH_EVENTS {
        let message = format!("it has more than {MAX_BATCH_EVENTS} events");
        return Err(StoreError::Refused { code: "too_many_events".into(), message });
    }
    let replaying = tokio::time::timeout(REPLAY_WAIT, store.replays().lock()).await;
    let _replaying = replaying.map_err(|_| StoreError::Unavailable("other dead letters are being replayed".into()))?;
    let (mut transaction, _) = store.begin(&[]).await?;
    match write_dead_letter(&mut *transaction, store, options, &stored, &entry).await {
        Ok(Some(written)) => end(transaction, options, Ok(written)).await.map(Some),
        Ok(None) => {
            transaction.rollback().await;
            Ok(None)
        }
        Err(error) => end(transaction, options, Err(error)).await.map(Some),
    }
}

async fn dead_letter(store: &dyn Store, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    let Some(before) = id.checked_add(1) else { return Ok(None) };
    let newest = store.dead_letters(Some(before), 1).await?.into_iter().next();
    Ok(newest.filter(|dead_letter| dead_letter.id == id))
}

/// Deletes a dead letter and stores its events. Returns `None` if somebody else has deleted it.
async fn write_dead_letter<'a, 's>(
    transaction: &mut dyn Transaction,
    store: &'s dyn Store,
    options: &'s CommitOptions,
    stored: &DeadLetter,
    entry: &'a Entry<'a>,
) -> Result<Option<Written<'a, 's>>, StoreError> {
    if transaction.take_dead_letter(stored.id).await?.is_none() {
        return Ok(None);
    }
    let mut arrivals = Arrivals::new(options);
    let mut rest = Rest::default();
    if let Some(own) = &stored.content.receipts {
        // The receipts of its requests were stored together with it, and what was skipped was counted then.
        let mut own = own.iter().copied().collect();
        rest.skipped = arrivals.add_requests(stored.content.position, &entry.requests, &mut own);
        arrivals.take_skipped();
    } else {
        // The receipt of the entry was stored when it was dead-lettered; those of its requests decide.
        let receipts = sorted(entry.requests.iter().filter_map(|r| r.receipt));
        let mut fresh = transaction.insert_receipts(&receipts).await?;
        rest.skipped = arrivals.add_requests(stored.content.position, &entry.requests, &mut fresh);
        rest.ledger = arrivals.take_skipped();
    }
    let tally = arrivals.insert(transaction, store.dedup_cache()).await?;
    write_rest(transaction, options, tally, rest).await.map(Some)
}

async fn attempt(
    store: &dyn Store,
    options: &CommitOptions,
    batch: &Batch<'_>,
    isolating: bool,
) -> Result<Outcome, StoreError> {
    let entries = batch.entries.iter().map(|(_, entry)| entry);
    let requests = entries.clone().flat_map(|e| &e.requests).filter_map(|r| r.receipt);
    let positions = batch.entries.iter().map(|(position, entry)| position_receipt(Some(entry.id), *position));
    let put_aside = batch.dead_letters.iter().flat_map(PutAside::receipts);
    let receipts = entries.map(|e| e.id.into()).chain(requests).chain(positions).chain(put_aside);
    let receipts = sorted(receipts);
    let (mut transaction, fresh) = store.begin(&receipts).await?;
    if let Some(numbering) = &options.numbering
        && let Err(error) = compare(&mut *transaction, numbering).await
    {
        // The connection is closed, so that the next one is compared too.
        return Err(error);
    }
    let written = write_batch(&mut *transaction, store, options, batch, fresh, isolating).await;
    end(transaction, options, written).await
}

/// Writes everything but the counters.
async fn write_batch<'a, 's>(
    transaction: &mut dyn Transaction,
    store: &'s dyn Store,
    options: &'s CommitOptions,
    batch: &'a Batch<'a>,
    mut fresh: HashSet<ReceiptId>,
    isolating: bool,
) -> Result<Written<'a, 's>, StoreError> {
    let mut arrivals = Arrivals::new(options);
    let mut rest = Rest { attempted: batch.attempted, ..Rest::default() };
    for (position, entry) in &batch.entries {
        let first_delivery = fresh.remove(&position_receipt(Some(entry.id), *position));
        if fresh.remove(&entry.id.into()) {
            rest.skipped += arrivals.add_requests(*position, &entry.requests, &mut fresh);
        } else {
            rest.skipped += 1;
            if first_delivery {
                arrivals.skip(&entry.requests);
            }
        }
    }
    rest.ledger = arrivals.take_skipped();
    for put_aside in &batch.dead_letters {
        let (dead_letter, skipped) = put_aside.decide(&mut fresh, &mut rest.outcomes);
        rest.ledger.add_unknown(skipped);
        match dead_letter {
            Some(dead_letter) => rest.dead_letters.push(dead_letter),
            None => rest.skipped += 1,
        }
    }
    let tally = if isolating {
        arrivals.isolate(transaction).await?
    } else {
        arrivals.insert(transaction, store.dedup_cache()).await?
    };
    write_rest(transaction, options, tally, rest).await
}

/// Returns the ids of receipts without repetitions, sorted so that two transactions never deadlock.
fn sorted(ids: impl Iterator<Item = ReceiptId>) -> Vec<ReceiptId> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What a transaction has written.
struct Written<'a, 's> {
    tally: Tally<'a, 's>,
    /// Number of dead-lettered events.
    dead_lettered: u64,
    /// Number of entries and requests skipped by their receipts.
    skipped: u64,
}

/// What a transaction writes beside the events.
#[derive(Default)]
struct Rest<'a> {
    /// Whole entries that become dead letters.
    dead_letters: Vec<NewDeadLetter>,
    /// The events that are skipped by receipts.
    ledger: Skipped<'a>,
    /// Number of entries and requests skipped by their receipts.
    skipped: u64,
    /// The entry whose marks of attempts are deleted.
    attempted: Option<Position>,
    /// What became of requests in these dead letters whose clients wait.
    outcomes: Vec<RequestOutcome>,
}

/// Writes what is left after the events.
async fn write_rest<'a, 's>(
    transaction: &mut dyn Transaction,
    options: &CommitOptions,
    mut tally: Tally<'a, 's>,
    rest: Rest<'_>,
) -> Result<Written<'a, 's>, StoreError> {
    let Rest { mut dead_letters, ledger, skipped, attempted, mut outcomes } = rest;
    let whole = dead_letters.iter().map(|dead_letter| dead_letter.events).sum();
    tally.counts.add("", Minute::now(), SeriesCounts { dead_lettered: whole, ..SeriesCounts::default() });
    dead_letters.append(&mut tally.dead_letters);
    if !dead_letters.is_empty() {
        transaction.insert_dead_letters(&dead_letters).await?;
    }
    if !tally.dropped.is_empty() {
        transaction.insert_audit(&tally.dropped).await?;
    }
    outcomes.append(&mut tally.outcomes);
    if !outcomes.is_empty() {
        transaction.insert_outcomes(&outcomes).await?;
    }
    if !tally.conflicts.all().is_empty() {
        transaction.insert_conflicts(tally.conflicts.all()).await?;
    }
    let audited = LedgerRow { topic: "", kind: LedgerKind::Audited, events: tally.dropped.len() as u64 };
    let rows: Vec<_> = (audited.events > 0).then_some(audited).into_iter().chain(ledger.rows()).collect();
    if !rows.is_empty() {
        transaction.add_to_ledger(&options.shard, &rows).await?;
    }
    if let Some(position) = attempted {
        transaction.forget_attempts(position).await?;
    }
    let meters = std::mem::take(&mut tally.meters);
    if !meters.is_empty() {
        transaction.add_to_meters(meters).await?;
    }
    Ok(Written { tally, dead_lettered: dead_letters.iter().map(|d| d.events).sum(), skipped })
}

/// Adds to the counters and commits. After an error that leaves the database as it was, rolls back, so that the
/// connection can be used again: a connection that is closed counts as lost, and then no cached key is trusted.
async fn end(
    transaction: Box<dyn Transaction>,
    options: &CommitOptions,
    written: Result<Written<'_, '_>, StoreError>,
) -> Result<Outcome, StoreError> {
    let Written { tally, dead_lettered, skipped } = match written {
        Ok(written) => written,
        Err(error) => {
            if error.leaves_connection_usable() {
                transaction.rollback().await;
            }
            return Err(error);
        }
    };
    let number = match &options.numbering {
        None => transaction.commit(&options.shard, &tally.counts, None).await?,
        Some(Numbering { worker, confirmed, .. }) => {
            let known = confirmed.all();
            let number = Some(Number { worker, confirmed: &known });
            let number = transaction.commit(&options.shard, &tally.counts, number).await?;
            // Before its keys are cached: a later commit that trusts them demands this one.
            number.inspect(|number| confirmed.confirm(worker, *number))
        }
    };
    let total = tally.counts.total();
    tally.record_stored();
    Ok(Outcome { counts: total, dead_lettered, skipped, number })
}
