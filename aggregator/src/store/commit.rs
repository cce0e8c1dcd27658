//! One batch, one transaction: receipts, events, counters, dead letters. Exactly once, whatever
//! is killed, because a repetition of any part finds its receipt.

use std::collections::{BTreeMap, HashMap, HashSet};

use sluice_event::entry::{Entry, PackedEntry, PackedRequest, Request};
use sluice_event::{Event, Keyer};
use sluice_log::Position;
use uuid::Uuid;

use super::isolate::{self, Refused};
use super::{Counts, Dropped, Inserted, NewDeadLetter, Row, Store, StoreError, Transaction};

/// Decoded entries in stream order, and what is put aside with them.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Entries in stream order, each with its position.
    pub entries: Vec<(Position, Entry<'a>)>,
    /// Whole entries to put aside: those that cannot be decoded or kill their reader.
    pub letters: Vec<(NewDeadLetter, Option<Uuid>)>,
    /// The entry whose marked attempts are forgotten when the batch commits.
    pub attempted: Option<Position>,
}

/// How a batch is stored.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What makes two events the same.
    pub keyer: Keyer,
    /// Whose counters are added to: `replica/worker`, so that no two transactions share a row.
    pub shard: String,
    /// Whether each dropped duplicate gets a row in the audit trail.
    pub audit: bool,
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
pub async fn commit(store: &dyn Store, rules: &Rules, batch: &Batch<'_>) -> Result<Outcome, StoreError> {
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
pub async fn replay(store: &dyn Store, rules: &Rules, id: i64) -> Result<Option<Outcome>, StoreError> {
    let mut transaction = store.begin().await?;
    let Some(stored) = transaction.take_dead_letter(id).await? else {
        return Ok(None);
    };
    let entry = sluice_event::entry::decode(&stored.letter.body)
        .map_err(|error| StoreError::Refused { code: "undecodable".into(), message: error.to_string() })?;
    // The entry's own receipt was recorded when it was put aside; those of its requests decide.
    let mut fresh = new_receipts(&mut *transaction, entry.requests.iter().filter_map(|r| r.receipt)).await?;
    let mut copies = Copies::new(&rules.keyer);
    let skipped = copies.take_requests(stored.letter.position, &entry.requests, &mut fresh);
    let tally = copies.insert(&mut *transaction, false).await?;
    let outcome = finish(transaction, rules, tally, &[], None).await?;
    Ok(Some(Outcome { skipped, ..outcome }))
}

async fn attempt(store: &dyn Store, rules: &Rules, batch: &Batch<'_>, isolating: bool) -> Result<Outcome, StoreError> {
    let mut transaction = store.begin().await?;
    let entries = batch.entries.iter().map(|(_, entry)| entry);
    let requests = entries.clone().flat_map(|e| &e.requests).filter_map(|r| r.receipt);
    let letters = batch.letters.iter().filter_map(|(_, entry)| *entry);
    let ids = entries.map(|e| e.id).chain(requests).chain(letters);
    let mut fresh = new_receipts(&mut *transaction, ids).await?;

    let mut copies = Copies::new(&rules.keyer);
    let mut skipped = 0;
    for (position, entry) in &batch.entries {
        if fresh.remove(&entry.id) {
            skipped += copies.take_requests(*position, &entry.requests, &mut fresh);
        } else {
            skipped += 1;
        }
    }
    let mut letters = Vec::new();
    for (letter, entry) in &batch.letters {
        match entry {
            Some(id) if !fresh.remove(id) => skipped += 1,
            _ => letters.push(letter.clone()),
        }
    }
    let tally = copies.insert(&mut *transaction, isolating).await?;
    let outcome = finish(transaction, rules, tally, &letters, batch.attempted).await?;
    Ok(Outcome { skipped, ..outcome })
}

/// Records receipts, sorted so that two transactions never wait for each other in a circle.
async fn new_receipts(
    transaction: &mut dyn Transaction,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashSet<Uuid>, StoreError> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() { Ok(HashSet::new()) } else { transaction.insert_receipts(&ids).await }
}

/// Counters last, since their rows are what concurrent transactions would wait for; then commit.
async fn finish(
    mut transaction: Box<dyn Transaction>,
    rules: &Rules,
    tally: Tally<'_>,
    letters: &[NewDeadLetter],
    attempted: Option<Position>,
) -> Result<Outcome, StoreError> {
    let letters: Vec<_> = letters.iter().cloned().chain(tally.letters).collect();
    if !letters.is_empty() {
        transaction.insert_dead_letters(&letters).await?;
    }
    if rules.audit && !tally.dropped.is_empty() {
        transaction.insert_audit(&tally.dropped).await?;
    }
    if let Some(position) = attempted {
        transaction.forget_attempts(position).await?;
    }
    if !tally.counts.is_empty() {
        transaction.add_counts(&rules.shard, &tally.counts).await?;
    }
    transaction.commit().await?;
    let mut total = Counts::default();
    for counts in tally.counts.values() {
        total.received += counts.received;
        total.unique += counts.unique;
        total.duplicates += counts.duplicates;
        total.conflicts += counts.conflicts;
    }
    Ok(Outcome { counts: total, dead_lettered: letters.iter().map(|l| l.events).sum(), skipped: 0 })
}

/// One sending of an event.
#[derive(Clone, Copy)]
struct Copy<'a> {
    key: Uuid,
    ordinal: u32,
    position: Position,
    request: &'a Request<'a>,
    event: &'a Event<'a>,
}

impl<'a> Copy<'a> {
    fn row(&self) -> Row<'a> {
        Row {
            key: self.key,
            ordinal: self.ordinal,
            event: self.event,
            received_at: self.request.accepted_at,
            request_id: self.request.id,
        }
    }

    fn dead_letter(&self, code: &str, reason: &str) -> NewDeadLetter {
        // Without a receipt: that of its request is recorded with the rest of the request.
        let request =
            PackedRequest::new(self.request.id, None, self.request.accepted_at, std::slice::from_ref(self.event));
        NewDeadLetter {
            position: self.position,
            event: Some((self.event.topic.to_string(), self.event.event_id.to_string())),
            events: 1,
            code: code.to_owned(),
            reason: reason.to_owned(),
            body: PackedEntry::new(Uuid::new_v4(), [&request].into_iter()).body,
        }
    }
}

/// What inserting decided about each copy.
#[derive(Default)]
struct Tally<'a> {
    counts: BTreeMap<&'a str, Counts>,
    dropped: Vec<Dropped>,
    letters: Vec<NewDeadLetter>,
}

/// All copies of a batch that are not skipped by receipt.
struct Copies<'a, 'k> {
    keyer: &'k Keyer,
    copies: Vec<Copy<'a>>,
}

impl<'a, 'k> Copies<'a, 'k> {
    fn new(keyer: &'k Keyer) -> Self {
        Self { keyer, copies: Vec::new() }
    }

    /// Takes the events of requests whose receipt, if they have one, is in `fresh`, and removes it
    /// there, so that the same request further on is skipped. Answers how many were skipped.
    fn take_requests(&mut self, position: Position, requests: &'a [Request<'a>], fresh: &mut HashSet<Uuid>) -> u64 {
        let mut skipped = 0;
        for request in requests {
            if request.receipt.is_some_and(|receipt| !fresh.remove(&receipt)) {
                skipped += 1;
                continue;
            }
            for event in &request.events {
                let key = self.keyer.key(event);
                let ordinal = u32::try_from(self.copies.len()).unwrap_or(u32::MAX);
                self.copies.push(Copy { key, ordinal, position, request, event });
            }
        }
        skipped
    }

    /// Inserts the first copy of each key and decides about the others. Where the store refuses a
    /// copy, the next copy of its key is tried, before anything is counted.
    async fn insert(mut self, transaction: &mut dyn Transaction, isolating: bool) -> Result<Tally<'a>, StoreError> {
        // By key, and in stream order within a key: the order rows must be locked in.
        self.copies.sort_unstable_by_key(|copy| (copy.key, copy.ordinal));
        let groups: Vec<&[Copy<'a>]> = self.copies.chunk_by(|a, b| a.key == b.key).collect();
        let mut tally = Tally::default();
        let mut inserted: Vec<bool> = vec![false; groups.len()];
        let mut tried: Vec<usize> = vec![0; groups.len()];
        let mut open: Vec<usize> = (0..groups.len()).collect();
        while !open.is_empty() {
            let rows: Vec<_> = open.iter().map(|&group| groups[group][tried[group]].row()).collect();
            let (new, refused) = if isolating {
                let (keys, refused) = isolate::insert(transaction, &rows).await?;
                (Inserted::Keys(keys), refused)
            } else {
                (transaction.insert_events(&rows).await?, Vec::new())
            };
            for &group in &open {
                inserted[group] = new.contains(&groups[group][0].key);
            }
            let refused_groups: Vec<_> = refused.iter().map(|r: &Refused| open[r.index]).collect();
            for (Refused { code, message, .. }, &group) in refused.iter().zip(&refused_groups) {
                tally.letters.push(groups[group][tried[group]].dead_letter(code, message));
                tried[group] += 1;
            }
            open = refused_groups.into_iter().filter(|&group| tried[group] < groups[group].len()).collect();
        }
        let stored = stored_hashes(transaction, &groups, &inserted, &tried).await?;
        for (index, group) in groups.iter().enumerate() {
            // Those before were refused; the first one left is the stored one, or a duplicate too.
            let counted = &group[tried[index]..];
            let first = if inserted[index] { counted.first() } else { None };
            let hash = first.map(|copy| copy.event.payload_hash).or_else(|| stored.get(&group[0].key).copied());
            for (place, copy) in counted.iter().enumerate() {
                tally.count(copy, inserted[index] && place == 0, hash);
            }
        }
        Ok(tally)
    }
}

/// The payload hashes of keys that were stored before this batch.
async fn stored_hashes(
    transaction: &mut dyn Transaction,
    groups: &[&[Copy<'_>]],
    inserted: &[bool],
    tried: &[usize],
) -> Result<HashMap<Uuid, Uuid>, StoreError> {
    let keys: Vec<_> = (0..groups.len())
        .filter(|&group| !inserted[group] && tried[group] < groups[group].len())
        .map(|group| groups[group][0].key)
        .collect();
    if keys.is_empty() { Ok(HashMap::new()) } else { transaction.payload_hashes(&keys).await }
}

impl<'a> Tally<'a> {
    fn count(&mut self, copy: &Copy<'a>, unique: bool, stored_hash: Option<Uuid>) {
        let counts = self.counts.entry(copy.event.topic.as_ref()).or_default();
        counts.received += 1;
        if unique {
            counts.unique += 1;
            return;
        }
        let conflict = stored_hash.is_some_and(|hash| hash != copy.event.payload_hash);
        counts.duplicates += 1;
        counts.conflicts += u64::from(conflict);
        self.dropped.push(Dropped { key: copy.key, request_id: copy.request.id, conflict });
        let (topic, event_id) = (&copy.event.topic, &copy.event.event_id);
        let request_id = copy.request.id;
        if conflict {
            tracing::info!(%topic, %event_id, %request_id, "duplicate dropped: its payload differs from the stored one");
        } else {
            tracing::debug!(%topic, %event_id, %request_id, "duplicate dropped");
        }
    }
}
