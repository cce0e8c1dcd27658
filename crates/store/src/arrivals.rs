//! The arrivals of events that a batch holds: which of each key is stored, which are duplicates.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use sluice_event::entry::{PackedEntry, PackedRequest, Request};
use sluice_event::{EntryId, Event, EventKey, ReceiptId};
use sluice_log::Position;

use crate::CommitOptions;
use crate::dedup_cache::{DedupCache, KeyReservation, KeyState, ShortHash};
use crate::isolate;
use crate::{Counts, Dropped, Hint, NewDeadLetter, Row, StoreError, Transaction};

/// How long a batch waits for others of this process that are inserting its keys: longer than a
/// transaction normally takes. After that the store is to wait, which knows about circles.
const PATIENCE: Duration = Duration::from_millis(250);

impl From<KeyState> for Hint {
    fn from(state_of_key: KeyState) -> Self {
        match state_of_key {
            KeyState::Unknown => Self::New,
            KeyState::PreviouslyStored => Self::SeenBefore,
            KeyState::BeingInserted | KeyState::Stored(_) => Self::UseOnConflict,
        }
    }
}

/// One sending of an event. With what is counted in it: arrivals are gone through in the order of their
/// keys, which is far from that of their events in memory.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    key: EventKey,
    event: &'a Event<'a>,
    hash: ShortHash,
    ordinal: u32,
    /// Indexes into [`Arrivals`].
    topic: u32,
    origin: u32,
}

/// What arrivals came in.
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
        // Without a receipt: that of its request is recorded with the rest of the request.
        let request = PackedRequest::new(request.id, None, request.accepted_at, std::slice::from_ref(self.event));
        NewDeadLetter {
            position: *position,
            event: Some((self.event.topic.to_string(), self.event.event_id.to_string())),
            events: 1,
            code: code.to_owned(),
            reason: reason.to_owned(),
            body: PackedEntry::new(EntryId::random(), [&request].into_iter()).body,
        }
    }
}

/// What inserting decided about each arrival.
#[derive(Default)]
pub(super) struct Tally<'a, 'k> {
    /// By topic.
    pub counts: BTreeMap<&'a str, Counts>,
    /// Every duplicate, where there is an audit trail.
    pub dropped: Vec<Dropped>,
    /// What the store refused.
    pub dead_letters: Vec<NewDeadLetter>,
    /// The batch's keys, until the transaction has ended.
    reservation: Option<KeyReservation<'k>>,
    /// What will be stored when it is committed, and what was found stored and not known before.
    stored: Vec<(EventKey, ShortHash)>,
}

/// All arrivals of a batch that are not skipped by receipt.
pub(super) struct Arrivals<'a, 'k> {
    rules: &'k CommitOptions,
    arrivals: Vec<Arrival<'a>>,
    origins: Vec<Origin<'a>>,
    topics: Vec<&'a str>,
    topic_indexes: HashMap<&'a str, u32>,
}

impl<'a, 'k> Arrivals<'a, 'k> {
    pub fn new(rules: &'k CommitOptions) -> Self {
        let (arrivals, origins) = (Vec::new(), Vec::new());
        Self { rules, arrivals, origins, topics: Vec::new(), topic_indexes: HashMap::new() }
    }

    /// Takes the events of requests whose receipt, if they have one, is in `fresh`, and removes it
    /// there, so that the same request further on is skipped. Answers how many were skipped.
    pub fn take_requests(
        &mut self,
        position: Position,
        requests: &'a [Request<'a>],
        fresh: &mut HashSet<ReceiptId>,
    ) -> u64 {
        let mut skipped = 0;
        for request in requests {
            if request.receipt.is_some_and(|receipt| !fresh.remove(&receipt)) {
                skipped += 1;
                continue;
            }
            let origin = index(self.origins.len());
            self.origins.push(Origin { position, request });
            for event in &request.events {
                let arrival = Arrival {
                    key: self.rules.keyer.key(event),
                    event,
                    hash: event.payload_hash.into(),
                    ordinal: index(self.arrivals.len()),
                    topic: self.topic_index(&event.topic),
                    origin,
                };
                self.arrivals.push(arrival);
            }
        }
        skipped
    }

    fn topic_index(&mut self, topic: &'a str) -> u32 {
        let topics = &mut self.topics;
        *self.topic_indexes.entry(topic).or_insert_with(|| {
            topics.push(topic);
            index(topics.len() - 1)
        })
    }

    /// Inserts the first arrival of each key and decides about the others.
    pub async fn insert<'s>(
        mut self,
        transaction: &mut dyn Transaction,
        cache: &'s DedupCache,
    ) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.arrivals);
        let origins = &*self.origins;
        let keys: Vec<_> = groups.iter().map(|group| group.arrivals[0].key).collect();
        let reservation = cache.reserve(transaction.generation(), &keys);
        for (group, state_of_key) in groups.iter_mut().zip(reservation.states()) {
            group.state_of_key = *state_of_key;
        }
        if transaction.may_pause() && groups.iter().any(|group| group.state_of_key == KeyState::BeingInserted) {
            // What others are inserting is stored by the time that this has been, most likely.
            insert_those(transaction, &mut groups, origins, |state_of_key| state_of_key != KeyState::BeingInserted)
                .await?;
            wait_for_others(&reservation, &mut groups).await;
            insert_those(transaction, &mut groups, origins, |state_of_key| state_of_key == KeyState::BeingInserted)
                .await?;
        } else {
            insert_those(transaction, &mut groups, origins, |_| true).await?;
        }
        look_up_stored(transaction, &mut groups).await?;
        let learned = groups.iter().zip(reservation.states()).filter(|(_, was)| !matches!(was, KeyState::Stored(_)));
        let stored = learned.filter_map(|(group, _)| Some((group.arrivals.first()?.key, group.stored()?))).collect();
        Ok(Tally { reservation: Some(reservation), stored, ..count(&groups, origins, &self.topics, self.rules) })
    }

    /// Inserts where the store has refused something: finds what it refuses, puts that aside, and
    /// tries the next arrival of its key, before anything is counted.
    pub async fn isolate<'s>(mut self, transaction: &mut dyn Transaction) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.arrivals);
        let origins = &*self.origins;
        let mut dead_letters = Vec::new();
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
                    groups[index].arrivals = others;
                    (!others.is_empty()).then_some(index)
                })
                .collect();
        }
        look_up_stored(transaction, &mut groups).await?;
        Ok(Tally { dead_letters, ..count(&groups, origins, &self.topics, self.rules) })
    }
}

/// No batch comes near as many: they are bounded in bytes.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// The arrivals of one key, in stream order, but for those that were refused.
struct Group<'c, 'a> {
    arrivals: &'c [Arrival<'a>],
    /// Whether the first of them was inserted.
    inserted: bool,
    /// What is known of the key, if it was not inserted.
    state_of_key: KeyState,
}

impl Group<'_, '_> {
    /// Whether it is not known yet what is stored under the key.
    fn is_open(&self) -> bool {
        !self.inserted && !matches!(self.state_of_key, KeyState::Stored(_)) && !self.arrivals.is_empty()
    }

    /// The hash of the payload that is stored under the key when the transaction is committed.
    fn stored(&self) -> Option<ShortHash> {
        match self.state_of_key {
            _ if self.inserted => self.arrivals.first().map(|first| first.hash),
            KeyState::Stored(hash) => Some(hash),
            KeyState::BeingInserted | KeyState::PreviouslyStored | KeyState::Unknown => None,
        }
    }
}

/// By key, and in stream order within a key: the order rows must be locked in.
fn by_key<'c, 'a>(arrivals: &'c mut [Arrival<'a>]) -> Vec<Group<'c, 'a>> {
    // As a number, a key compares without a call.
    arrivals.sort_unstable_by_key(|arrival| (arrival.key.as_u128(), arrival.ordinal));
    let groups = arrivals.chunk_by(|a, b| a.key == b.key);
    groups.map(|arrivals| Group { arrivals, inserted: false, state_of_key: KeyState::Unknown }).collect()
}

/// Inserts the first arrivals of the keys that are not known to be stored and are in `these` states.
async fn insert_those<'a>(
    transaction: &mut dyn Transaction,
    groups: &mut [Group<'_, 'a>],
    origins: &[Origin<'a>],
    these: impl Fn(KeyState) -> bool,
) -> Result<(), StoreError> {
    let mut open: Vec<_> = groups.iter_mut().filter(|group| group.is_open() && these(group.state_of_key)).collect();
    let rows: Vec<_> = open.iter().map(|group| group.arrivals[0].row(origins, group.state_of_key.into())).collect();
    if !rows.is_empty() {
        let inserted = transaction.insert_events(&rows).await?;
        for group in &mut open {
            group.inserted = inserted.contains(&group.arrivals[0].key);
        }
    }
    Ok(())
}

/// Waits for those that are inserting the same keys, and learns what they stored.
async fn wait_for_others(reservation: &KeyReservation<'_>, groups: &mut [Group<'_, '_>]) {
    let contended: Vec<_> = groups.iter_mut().filter(|group| group.state_of_key == KeyState::BeingInserted).collect();
    let keys: Vec<_> = contended.iter().map(|group| group.arrivals[0].key).collect();
    let stored = reservation.wait_for_others(&keys, PATIENCE).await;
    for (group, stored) in contended.into_iter().zip(stored) {
        group.state_of_key = stored.map_or(KeyState::BeingInserted, KeyState::Stored);
    }
}

/// Reads the payload hashes of keys that were stored before this batch, where they are not known.
async fn look_up_stored(transaction: &mut dyn Transaction, groups: &mut [Group<'_, '_>]) -> Result<(), StoreError> {
    let keys: Vec<_> = groups.iter().filter(|group| group.is_open()).map(|group| group.arrivals[0].key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let hashes = transaction.payload_hashes(&keys).await?;
    for group in groups.iter_mut().filter(|group| group.is_open()) {
        if let Some(&hash) = hashes.get(&group.arrivals[0].key) {
            group.state_of_key = KeyState::Stored(hash.into());
        }
    }
    Ok(())
}

/// Counts all arrivals by topic, once it is known what is stored under each key.
fn count<'a, 'k>(
    groups: &[Group<'_, 'a>],
    origins: &[Origin<'a>],
    topics: &[&'a str],
    rules: &CommitOptions,
) -> Tally<'a, 'k> {
    let mut counts = vec![Counts::default(); topics.len()];
    let mut dropped = Vec::new();
    for group in groups {
        let stored = group.stored();
        for (place, arrival) in group.arrivals.iter().enumerate() {
            let counts = &mut counts[arrival.topic as usize];
            counts.received += 1;
            if group.inserted && place == 0 {
                counts.unique += 1;
                continue;
            }
            let conflict = stored.is_some_and(|hash| hash != arrival.hash);
            counts.duplicates += 1;
            counts.conflicts += u64::from(conflict);
            let request_id = || origins[arrival.origin as usize].request.id;
            if rules.audit {
                dropped.push(Dropped { key: arrival.key, request_id: request_id(), conflict });
            }
            let (topic, event_id) = (&arrival.event.topic, &arrival.event.event_id);
            if conflict {
                tracing::info!(%topic, %event_id, request_id = %request_id(),
                    "duplicate dropped: its payload differs from the stored one");
            } else {
                tracing::debug!(%topic, %event_id, request_id = %request_id(), "duplicate dropped");
            }
        }
    }
    // All arrivals of a topic may have been refused.
    let counts = topics.iter().copied().zip(counts).filter(|(_, counts)| counts.received > 0).collect();
    Tally { counts, dropped, ..Tally::default() }
}

impl Tally<'_, '_> {
    /// The transaction is committed: its keys are known from now on.
    pub fn committed(self) {
        if let Some(reservation) = self.reservation {
            reservation.record_stored(&self.stored);
        }
    }
}
