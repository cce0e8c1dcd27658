//! The arrivals of events in a batch, and the decision which of each key is stored and which are duplicates.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sluice_event::entry::{PackedRequest, Request};
use sluice_event::{EntryId, Event, EventKey, ReceiptId, compressed};
use sluice_log::Position;
use sluice_meter::{Counted, Recorder};
use sluice_service::log_limit::LogLimit;

use crate::CommitOptions;
use crate::conflicts::{self, NewConflict};
use crate::dedup_cache::{DedupCache, KeyReservation, KeyState, ShortHash};
use crate::isolate;
use crate::ledger::Skipped;
use crate::outcomes::RequestOutcome;
use crate::series::{BatchCounts, Minute, SeriesCounts};
use crate::{Counts, Dropped, Hint, NewDeadLetter, Row, StoreError, Transaction};

/// The longest that a batch waits for other batches of this process that are inserting its keys: longer than
/// a transaction normally takes. After that the wait is left to the database, which detects deadlocks.
const WAIT_TIMEOUT: Duration = Duration::from_millis(250);

/// The maximum number of conflicts of a batch that are logged.
const MAX_LOGGED_CONFLICTS: usize = 20;
/// Any client can cause any number of conflicts.
static CONFLICTS: LogLimit = LogLimit::per_second(20);

impl From<KeyState> for Hint {
    fn from(key_state: KeyState) -> Self {
        match key_state {
            KeyState::Unknown => Self::New,
            KeyState::PreviouslyStored => Self::SeenBefore,
            KeyState::BeingInserted | KeyState::Stored(_) => Self::UseOnConflict,
        }
    }
}

/// One arrival of an event: each sending is one. It contains what counting needs, because arrivals are
/// processed in key order, in which their events are scattered in memory.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    key: EventKey,
    event: &'a Event<'a>,
    hash: ShortHash,
    ordinal: u32,
    /// Indexes into [`Arrivals`].
    slot: u32,
    origin: u32,
}

/// A topic, and the minute in which requests were accepted: what is counted together.
type Slot<'a> = (&'a str, Minute);

/// The request that an arrival came with, and the position of its entry.
struct Origin<'a> {
    position: Position,
    request: &'a Request<'a>,
}

impl<'a> Arrival<'a> {
    fn row(&self, origins: &[Origin<'a>], hint: Hint) -> Row<'a> {
        let request = origins[self.origin as usize].request;
        Row {
            key: self.key,
            ordinal: self.ordinal,
            event: self.event,
            received_at: request.accepted_at,
            request_id: request.id,
            hint,
        }
    }

    fn dead_letter(&self, origins: &[Origin<'a>], code: &str, reason: &str) -> NewDeadLetter {
        let Origin { position, request } = &origins[self.origin as usize];
        // Without a receipt: that of the request is stored together with the rest of the request.
        let request = PackedRequest::new(request.id, None, request.accepted_at, std::slice::from_ref(self.event));
        NewDeadLetter {
            position: *position,
            event: Some((self.event.topic.to_string(), self.event.event_id.to_string())),
            events: 1,
            receipts: None,
            code: code.to_owned(),
            reason: reason.to_owned(),
            body: compressed::pack_uncompressed(EntryId::random(), [&request].into_iter()).body,
        }
    }
}

/// The counts and rows that result from inserting a batch.
#[derive(Default)]
pub(super) struct Tally<'a, 'k> {
    /// Counts by topic and minute of arrival.
    pub counts: BatchCounts<'a>,
    /// What the meters have counted, as rows.
    pub meters: Vec<Vec<u8>>,
    /// All duplicates, if there is an audit trail.
    pub dropped: Vec<Dropped>,
    /// Some of the duplicates whose payload differs from the stored one.
    pub conflicts: conflicts::Kept<'a>,
    /// What became of the requests whose clients wait.
    pub outcomes: Vec<RequestOutcome>,
    /// The arrivals that the store refused.
    pub dead_letters: Vec<NewDeadLetter>,
    /// The reserved keys of the batch, until the transaction has ended.
    reservation: Option<KeyReservation<'k>>,
    /// The keys that are stored once the transaction is committed and were not cached before.
    stored: Vec<(EventKey, ShortHash)>,
}

/// All arrivals of a batch, except those skipped by their receipt.
pub(super) struct Arrivals<'a, 'k> {
    options: &'k CommitOptions,
    arrivals: Vec<Arrival<'a>>,
    origins: Vec<Origin<'a>>,
    slots: Vec<Slot<'a>>,
    slot_indexes: HashMap<Slot<'a>, u32>,
    skipped: Skipped<'a>,
}

impl<'a, 'k> Arrivals<'a, 'k> {
    pub fn new(options: &'k CommitOptions) -> Self {
        let (arrivals, origins) = (Vec::new(), Vec::new());
        let (slots, slot_indexes, skipped) = (Vec::new(), HashMap::new(), Skipped::default());
        Self { options, arrivals, origins, slots, slot_indexes, skipped }
    }

    /// Adds the events of the requests that have no receipt, or one in `fresh`. The receipt is removed from
    /// `fresh`, so that a repetition of the request is skipped. Returns how many requests were skipped.
    pub fn add_requests(
        &mut self,
        position: Position,
        requests: &'a [Request<'a>],
        fresh: &mut HashSet<ReceiptId>,
    ) -> u64 {
        let mut skipped = 0;
        for request in requests {
            if request.receipt.is_some_and(|receipt| !fresh.remove(&receipt)) {
                self.skipped.add_requests(std::slice::from_ref(request));
                skipped += 1;
                continue;
            }
            let origin = index(self.origins.len());
            self.origins.push(Origin { position, request });
            let minute = request.accepted_at.into();
            for event in &request.events {
                let arrival = Arrival {
                    key: self.options.keyer.key(event),
                    event,
                    hash: event.payload_hash.into(),
                    ordinal: index(self.arrivals.len()),
                    slot: self.slot_index((&event.topic, minute)),
                    origin,
                };
                self.arrivals.push(arrival);
            }
        }
        skipped
    }

    /// Counts the requests of an entry that is skipped whole although it was appended once more.
    pub fn skip(&mut self, requests: &'a [Request<'a>]) {
        self.skipped.add_requests(requests);
    }

    /// Removes and returns what was skipped so far.
    pub fn take_skipped(&mut self) -> Skipped<'a> {
        std::mem::take(&mut self.skipped)
    }

    fn slot_index(&mut self, slot: Slot<'a>) -> u32 {
        let slots = &mut self.slots;
        *self.slot_indexes.entry(slot).or_insert_with(|| {
            slots.push(slot);
            index(slots.len() - 1)
        })
    }

    /// Inserts the first arrival of each key, and counts all arrivals.
    pub async fn insert<'s>(
        mut self,
        transaction: &mut dyn Transaction,
        cache: &'s DedupCache,
    ) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.arrivals);
        let origins = &*self.origins;
        let keys: Vec<_> = groups.iter().map(|group| group.arrivals[0].key).collect();
        let reservation = cache.reserve(transaction.generation(), &keys);
        for (group, key_state) in groups.iter_mut().zip(reservation.states()) {
            group.key_state = *key_state;
        }
        if transaction.may_pause() && groups.iter().any(|group| group.key_state == KeyState::BeingInserted) {
            // By the time that the first part is inserted, most transactions of the others have ended.
            insert_selected(transaction, &mut groups, origins, |key_state| key_state != KeyState::BeingInserted)
                .await?;
            wait_for_others(&reservation, &mut groups).await;
            insert_selected(transaction, &mut groups, origins, |key_state| key_state == KeyState::BeingInserted)
                .await?;
        } else {
            insert_selected(transaction, &mut groups, origins, |_| true).await?;
        }
        look_up_stored(transaction, &mut groups).await?;
        let new = groups.iter().zip(reservation.states()).filter(|(_, was)| !matches!(was, KeyState::Stored(_)));
        let stored = new.filter_map(|(group, _)| Some((group.arrivals.first()?.key, group.stored()?))).collect();
        let meters = count_by_meters(transaction, &groups, origins);
        Ok(Tally {
            meters,
            reservation: Some(reservation),
            stored,
            ..count(&groups, origins, &self.slots, self.options)
        })
    }

    /// Does what [`Arrivals::insert`] does, for a batch of which the store has refused a row: finds the refused
    /// rows, dead-letters them, and inserts the next arrival of their keys, before anything is counted.
    pub async fn isolate<'s>(mut self, transaction: &mut dyn Transaction) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.arrivals);
        let origins = &*self.origins;
        let (mut dead_letters, mut refused_counts) = (Vec::new(), BatchCounts::default());
        let mut open: Vec<usize> = (0..groups.len()).collect();
        while !open.is_empty() {
            let rows = open.iter().map(|&index| groups[index].arrivals[0].row(origins, Hint::UseOnConflict));
            let (inserted, refused) = isolate::insert(transaction, &rows.collect::<Vec<_>>()).await?;
            for &index in &open {
                groups[index].inserted = inserted.contains(&groups[index].arrivals[0].key);
            }
            open = refused
                .into_iter()
                .filter_map(|refused| {
                    let index = open[refused.index];
                    let (first, others) = groups[index].arrivals.split_first()?;
                    dead_letters.push(first.dead_letter(origins, &refused.code, &refused.message));
                    let (topic, minute) = self.slots[first.slot as usize];
                    refused_counts.add(topic, minute, SeriesCounts { dead_lettered: 1, ..SeriesCounts::default() });
                    groups[index].arrivals = others;
                    (!others.is_empty()).then_some(index)
                })
                .collect();
        }
        look_up_stored(transaction, &mut groups).await?;
        let mut tally = count(&groups, origins, &self.slots, self.options);
        for (topic, minute, counts) in refused_counts.rows() {
            tally.counts.add(topic, minute, counts);
        }
        tally.dead_letters = dead_letters;
        for outcome in &mut tally.outcomes {
            // What was not counted was refused.
            let events = waiting(origins).find(|(_, receipt, _)| *receipt == outcome.receipt).map_or(0, |(.., n)| n);
            outcome.dead_lettered = events.saturating_sub(outcome.stored + outcome.duplicates);
        }
        tally.meters = count_by_meters(transaction, &groups, origins);
        Ok(tally)
    }
}

/// Returns a position in a list as an index. No batch has near 2³² events, because it is bounded in bytes.
fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The arrivals of one key, in stream order, without those that were refused.
struct Group<'c, 'a> {
    arrivals: &'c [Arrival<'a>],
    /// Whether the first of them was inserted.
    inserted: bool,
    /// The state of the key, if its row was not inserted.
    key_state: KeyState,
}

impl Group<'_, '_> {
    /// Returns whether it is still open what is stored under the key.
    fn is_open(&self) -> bool {
        !self.inserted && !matches!(self.key_state, KeyState::Stored(_)) && !self.arrivals.is_empty()
    }

    /// Returns the hash of the payload that is stored under the key once the transaction is committed.
    fn stored(&self) -> Option<ShortHash> {
        match self.key_state {
            _ if self.inserted => self.arrivals.first().map(|first| first.hash),
            KeyState::Stored(hash) => Some(hash),
            KeyState::BeingInserted | KeyState::PreviouslyStored | KeyState::Unknown => None,
        }
    }
}

/// Groups arrivals by key, in stream order within a key. The groups are sorted by key, which is the order in
/// which rows must be locked.
fn by_key<'c, 'a>(arrivals: &'c mut [Arrival<'a>]) -> Vec<Group<'c, 'a>> {
    // As numbers, keys are compared without a function call.
    arrivals.sort_unstable_by_key(|arrival| (arrival.key.as_u128(), arrival.ordinal));
    let groups = arrivals.chunk_by(|a, b| a.key == b.key);
    groups.map(|arrivals| Group { arrivals, inserted: false, key_state: KeyState::Unknown }).collect()
}

/// Inserts the first arrivals of the open keys whose states are selected.
async fn insert_selected<'a>(
    transaction: &mut dyn Transaction,
    groups: &mut [Group<'_, 'a>],
    origins: &[Origin<'a>],
    selected: impl Fn(KeyState) -> bool,
) -> Result<(), StoreError> {
    let mut open: Vec<_> = groups.iter_mut().filter(|group| group.is_open() && selected(group.key_state)).collect();
    let rows: Vec<_> = open.iter().map(|group| group.arrivals[0].row(origins, group.key_state.into())).collect();
    if !rows.is_empty() {
        let inserted = transaction.insert_events(&rows).await?;
        for group in &mut open {
            group.inserted = inserted.contains(&group.arrivals[0].key);
        }
    }
    Ok(())
}

/// Waits for the transactions that are inserting the same keys, and takes over the states that they leave.
async fn wait_for_others(reservation: &KeyReservation<'_>, groups: &mut [Group<'_, '_>]) {
    let contended: Vec<_> = groups.iter_mut().filter(|group| group.key_state == KeyState::BeingInserted).collect();
    let keys: Vec<_> = contended.iter().map(|group| group.arrivals[0].key).collect();
    let stored = reservation.wait_for_others(&keys, WAIT_TIMEOUT).await;
    for (group, stored) in contended.into_iter().zip(stored) {
        group.key_state = stored.map_or(KeyState::BeingInserted, KeyState::Stored);
    }
}

/// Reads the payload hashes of the keys that are still open: they were stored before this batch.
async fn look_up_stored(transaction: &mut dyn Transaction, groups: &mut [Group<'_, '_>]) -> Result<(), StoreError> {
    let keys: Vec<_> = groups.iter().filter(|group| group.is_open()).map(|group| group.arrivals[0].key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let hashes = transaction.payload_hashes(&keys).await?;
    for group in groups.iter_mut().filter(|group| group.is_open()) {
        if let Some(&hash) = hashes.get(&group.arrivals[0].key) {
            group.key_state = KeyState::Stored(hash.into());
        }
    }
    Ok(())
}

/// Counts all arrivals by topic and minute, after it was decided what is stored under each key.
fn count<'a, 'k>(
    groups: &[Group<'_, 'a>],
    origins: &[Origin<'a>],
    slots: &[Slot<'a>],
    options: &CommitOptions,
) -> Tally<'a, 'k> {
    let mut counts = vec![Counts::default(); slots.len()];
    let (mut dropped, mut conflicts) = (Vec::new(), conflicts::Kept::default());
    let mut outcomes: HashMap<u32, RequestOutcome> =
        waiting(origins).map(|(origin, receipt, _)| (origin, RequestOutcome::none(receipt))).collect();
    let mut unwaited = RequestOutcome::none(ReceiptId::from_u128(0));
    for group in groups {
        let stored = group.stored();
        for (position, arrival) in group.arrivals.iter().enumerate() {
            let counts = &mut counts[arrival.slot as usize];
            counts.received += 1;
            let outcome = match outcomes.is_empty() {
                true => &mut unwaited,
                false => outcomes.get_mut(&arrival.origin).unwrap_or(&mut unwaited),
            };
            if group.inserted && position == 0 {
                counts.unique += 1;
                outcome.stored += 1;
                continue;
            }
            let conflict = stored.is_some_and(|stored| arrival.hash.conflicts_with(stored));
            counts.duplicates += 1;
            counts.conflicts += u64::from(conflict);
            outcome.duplicates += 1;
            outcome.conflicts += u64::from(conflict);
            let request = origins[arrival.origin as usize].request;
            if options.audit {
                dropped.push(Dropped { key: arrival.key, request_id: request.id, conflict });
            }
            let (key, event) = (arrival.key, arrival.event);
            if conflict {
                conflicts.add(NewConflict { key, event, received_at: request.accepted_at, request_id: request.id });
            } else {
                let (topic, event_id) = (&event.topic, &event.event_id);
                tracing::debug!(%topic, %event_id, request_id = %request.id, "duplicate dropped");
            }
        }
    }
    let mut by_slot = BatchCounts::default();
    for ((topic, minute), counts) in slots.iter().zip(counts) {
        by_slot.add(topic, *minute, SeriesCounts { counts, dead_lettered: 0 });
    }
    let outcomes = outcomes.into_values().collect();
    Tally { counts: by_slot, dropped, conflicts, outcomes, ..Tally::default() }
}

/// Returns the requests whose clients wait: the index of each, its receipt and its number of events.
fn waiting<'o>(origins: &'o [Origin<'_>]) -> impl Iterator<Item = (u32, ReceiptId, u64)> + 'o {
    let requests = (0..).zip(origins).filter(|(_, origin)| origin.request.waits);
    requests.filter_map(|(index, Origin { request, .. })| Some((index, request.receipt?, request.events.len() as u64)))
}

/// Lets the meters count the events that were inserted.
fn count_by_meters(transaction: &dyn Transaction, groups: &[Group<'_, '_>], origins: &[Origin<'_>]) -> Vec<Vec<u8>> {
    let mut recorder = Recorder::new(transaction.meters());
    let inserted = groups.iter().filter(|group| group.inserted).filter_map(|group| group.arrivals.first());
    recorder.add_all(inserted.map(|arrival| {
        let request = origins[arrival.origin as usize].request;
        Counted::of(arrival.event, request.accepted_at)
    }));
    recorder.encode()
}

impl Tally<'_, '_> {
    /// Records the keys in the dedup cache and logs conflicts, after the transaction was committed.
    pub fn record_stored(self) {
        let all: u64 = self.counts.total().conflicts;
        let logged = self.conflicts.all().iter().take(MAX_LOGGED_CONFLICTS);
        CONFLICTS.leave_out(all.saturating_sub(logged.len() as u64));
        for NewConflict { event, request_id, .. } in logged {
            let (topic, event_id) = (&event.topic, &event.event_id);
            if let Some(left_out) = CONFLICTS.allow() {
                tracing::info!(%topic, %event_id, %request_id, left_out,
                    "duplicate dropped: its payload differs from the stored one");
            }
        }
        if let Some(reservation) = self.reservation {
            reservation.record_stored(&self.stored);
        }
    }
}
