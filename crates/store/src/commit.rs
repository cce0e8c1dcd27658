//! One batch, one transaction: receipts, events, counters, dead dead_letters. Exactly once, whatever
//! is killed, because a repetition of any part finds its receipt.

use sluice_event::entry::{self, DecodeError, Entry};
use sluice_event::{EntryId, ReceiptId, compressed};
use sluice_log::Position;

use crate::arrivals::{Arrivals, Tally};
use crate::{CommitOptions, Counts, NewDeadLetter, Store, StoreError, Transaction};

/// Decoded entries in stream order, and what is put aside with them.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Entries in stream order, each with its position.
    pub entries: Vec<(Position, Entry<'a>)>,
    /// Whole entries to put aside: those that cannot be decoded or kill their reader.
    pub dead_letters: Vec<(NewDeadLetter, Option<EntryId>)>,
    /// The entry whose marked attempts are forgotten when the batch commits.
    pub attempted: Option<Position>,
}

/// What a committed batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The events' counts.
    pub counts: Counts,
    /// Events put aside.
    pub dead_lettered: u64,
    /// Entries and requests skipped because their receipt was there already.
    pub skipped: u64,
}

/// Stores a batch in one transaction.
pub async fn commit(store: &dyn Store, rules: &CommitOptions, batch: &Batch<'_>) -> Result<Outcome, StoreError> {
    match attempt(store, rules, batch, false).await {
        // Savepoints cost a round trip each, so they are only set once something is refused.
        Err(StoreError::Refused { code, message }) => {
            tracing::warn!(code, message, "the store refuses data of this batch: isolating it");
            attempt(store, rules, batch, true).await
        }
        other => other,
    }
}

/// Takes a dead letter out and stores what is in it, in one transaction. `None` when there is no
/// such letter; refused as long as the store still refuses it, and then it stays a letter.
pub async fn replay(store: &dyn Store, rules: &CommitOptions, id: i64) -> Result<Option<Outcome>, StoreError> {
    let (mut transaction, _) = store.begin(&[]).await?;
    let Some(stored) = transaction.take_dead_letter(id).await? else {
        return Ok(None);
    };
    let undecodable =
        |error: DecodeError| StoreError::Refused { code: "undecodable".into(), message: error.to_string() };
    let body = compressed::expand(&stored.letter.body).map_err(undecodable)?;
    let entry = entry::decode(&body).map_err(undecodable)?;
    // The entry's own receipt was recorded when it was put aside; those of its requests decide.
    let receipts = in_order(entry.requests.iter().filter_map(|r| r.receipt));
    let mut fresh = transaction.insert_receipts(&receipts).await?;
    let mut arrivals = Arrivals::new(rules);
    let skipped = arrivals.take_requests(stored.letter.position, &entry.requests, &mut fresh);
    let tally = arrivals.insert(&mut *transaction, store.dedup_cache()).await?;
    let outcome = finish(transaction, rules, tally, Vec::new(), None).await?;
    Ok(Some(Outcome { skipped, ..outcome }))
}

async fn attempt(
    store: &dyn Store,
    rules: &CommitOptions,
    batch: &Batch<'_>,
    isolating: bool,
) -> Result<Outcome, StoreError> {
    let entries = batch.entries.iter().map(|(_, entry)| entry);
    let requests = entries.clone().flat_map(|e| &e.requests).filter_map(|r| r.receipt);
    let dead_letters = batch.dead_letters.iter().filter_map(|(_, entry)| entry.map(ReceiptId::from));
    let receipts = in_order(entries.map(|e| e.id.into()).chain(requests).chain(dead_letters));
    let (mut transaction, mut fresh) = store.begin(&receipts).await?;

    let mut arrivals = Arrivals::new(rules);
    let mut skipped = 0;
    for (position, entry) in &batch.entries {
        if fresh.remove(&entry.id.into()) {
            skipped += arrivals.take_requests(*position, &entry.requests, &mut fresh);
        } else {
            skipped += 1;
        }
    }
    let mut dead_letters = Vec::new();
    for (letter, entry) in &batch.dead_letters {
        match entry {
            Some(id) if !fresh.remove(&(*id).into()) => skipped += 1,
            _ => dead_letters.push(letter.clone()),
        }
    }
    let tally = if isolating {
        arrivals.isolate(&mut *transaction).await?
    } else {
        arrivals.insert(&mut *transaction, store.dedup_cache()).await?
    };
    let outcome = finish(transaction, rules, tally, dead_letters, batch.attempted).await?;
    Ok(Outcome { skipped, ..outcome })
}

/// The ids of receipts, sorted so that two transactions never wait for each other in a circle.
fn in_order(ids: impl Iterator<Item = ReceiptId>) -> Vec<ReceiptId> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Everything but the events, and the commit.
async fn finish(
    mut transaction: Box<dyn Transaction>,
    rules: &CommitOptions,
    mut tally: Tally<'_, '_>,
    mut dead_letters: Vec<NewDeadLetter>,
    attempted: Option<Position>,
) -> Result<Outcome, StoreError> {
    dead_letters.append(&mut tally.dead_letters);
    if !dead_letters.is_empty() {
        transaction.insert_dead_letters(&dead_letters).await?;
    }
    if !tally.dropped.is_empty() {
        transaction.insert_audit(&tally.dropped).await?;
    }
    if let Some(position) = attempted {
        transaction.forget_attempts(position).await?;
    }
    transaction.commit(&rules.shard, &tally.counts).await?;
    let mut total = Counts::default();
    for counts in tally.counts.values() {
        total.received += counts.received;
        total.unique += counts.unique;
        total.duplicates += counts.duplicates;
        total.conflicts += counts.conflicts;
    }
    tally.committed();
    Ok(Outcome { counts: total, dead_lettered: dead_letters.iter().map(|l| l.events).sum(), skipped: 0 })
}
