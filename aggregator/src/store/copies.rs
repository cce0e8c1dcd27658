//! The copies of events that a batch holds: which of each key is stored, which are duplicates.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use sluice_event::Event;
use sluice_event::entry::{PackedEntry, PackedRequest, Request};
use sluice_log::Position;
use uuid::Uuid;

use super::commit::Rules;
use super::isolate;
use super::known::{Claim, KnownKeys, ShortHash, Standing};
use super::{Counts, Dropped, Likely, NewDeadLetter, Row, StoreError, Transaction};

/// How long a batch waits for others of this process that are inserting its keys: longer than a
/// transaction normally takes. After that the store is to wait, which knows about circles.
const PATIENCE: Duration = Duration::from_millis(250);

impl From<Standing> for Likely {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Unknown => Self::New,
            Standing::Seen => Self::Seen,
            Standing::Contended | Standing::Stored(_) => Self::Stored,
        }
    }
}

/// One sending of an event. With what is counted in it: copies are gone through in the order of their
/// keys, which is far from that of their events in memory.
#[derive(Clone, Copy)]
struct Copy<'a> {
    key: Uuid,
    event: &'a Event<'a>,
    hash: ShortHash,
    ordinal: u32,
    /// Indexes into [`Copies`].
    topic: u32,
    origin: u32,
}

/// What copies came in.
struct Origin<'a> {
    position: Position,
    request: &'a Request<'a>,
}

impl<'a> Copy<'a> {
    fn row(&self, origins: &[Origin<'a>], likely: Likely) -> Row<'a> {
        let request = origins[self.origin as usize].request;
        Row {
            key: self.key,
            ordinal: self.ordinal,
            event: self.event,
            received_at: request.accepted_at,
            request_id: request.id,
            likely,
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
            body: PackedEntry::new(Uuid::new_v4(), [&request].into_iter()).body,
        }
    }
}

/// What inserting decided about each copy.
#[derive(Default)]
pub(super) struct Tally<'a, 'k> {
    /// By topic.
    pub counts: BTreeMap<&'a str, Counts>,
    /// Every duplicate, where there is an audit trail.
    pub dropped: Vec<Dropped>,
    /// What the store refused.
    pub letters: Vec<NewDeadLetter>,
    /// The batch's keys, until the transaction has ended.
    claim: Option<Claim<'k>>,
    /// What will be stored when it is committed, and what was found stored and not known before.
    stored: Vec<(Uuid, ShortHash)>,
}

/// All copies of a batch that are not skipped by receipt.
pub(super) struct Copies<'a, 'k> {
    rules: &'k Rules,
    copies: Vec<Copy<'a>>,
    origins: Vec<Origin<'a>>,
    topics: Vec<&'a str>,
    topic_indexes: HashMap<&'a str, u32>,
}

impl<'a, 'k> Copies<'a, 'k> {
    pub fn new(rules: &'k Rules) -> Self {
        let (copies, origins) = (Vec::new(), Vec::new());
        Self { rules, copies, origins, topics: Vec::new(), topic_indexes: HashMap::new() }
    }

    /// Takes the events of requests whose receipt, if they have one, is in `fresh`, and removes it
    /// there, so that the same request further on is skipped. Answers how many were skipped.
    pub fn take_requests(&mut self, position: Position, requests: &'a [Request<'a>], fresh: &mut HashSet<Uuid>) -> u64 {
        let mut skipped = 0;
        for request in requests {
            if request.receipt.is_some_and(|receipt| !fresh.remove(&receipt)) {
                skipped += 1;
                continue;
            }
            let origin = index(self.origins.len());
            self.origins.push(Origin { position, request });
            for event in &request.events {
                let copy = Copy {
                    key: self.rules.keyer.key(event),
                    event,
                    hash: event.payload_hash.into(),
                    ordinal: index(self.copies.len()),
                    topic: self.topic_index(&event.topic),
                    origin,
                };
                self.copies.push(copy);
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

    /// Inserts the first copy of each key and decides about the others.
    pub async fn insert<'s>(
        mut self,
        transaction: &mut dyn Transaction,
        known: &'s KnownKeys,
    ) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.copies);
        let origins = &*self.origins;
        let keys: Vec<_> = groups.iter().map(|group| group.copies[0].key).collect();
        let claim = known.claim(transaction.epoch(), &keys);
        for (group, standing) in groups.iter_mut().zip(claim.standings()) {
            group.standing = *standing;
        }
        if transaction.may_pause() && groups.iter().any(|group| group.standing == Standing::Contended) {
            // What others are inserting is stored by the time that this has been, most likely.
            insert_those(transaction, &mut groups, origins, |standing| standing != Standing::Contended).await?;
            wait_for_others(&claim, &mut groups).await;
            insert_those(transaction, &mut groups, origins, |standing| standing == Standing::Contended).await?;
        } else {
            insert_those(transaction, &mut groups, origins, |_| true).await?;
        }
        look_up_stored(transaction, &mut groups).await?;
        let learned = groups.iter().zip(claim.standings()).filter(|(_, was)| !matches!(was, Standing::Stored(_)));
        let stored = learned.filter_map(|(group, _)| Some((group.copies.first()?.key, group.stored()?))).collect();
        Ok(Tally { claim: Some(claim), stored, ..count(&groups, origins, &self.topics, self.rules) })
    }

    /// Inserts where the store has refused something: finds what it refuses, puts that aside, and
    /// tries the next copy of its key, before anything is counted.
    pub async fn isolate<'s>(mut self, transaction: &mut dyn Transaction) -> Result<Tally<'a, 's>, StoreError> {
        let mut groups = by_key(&mut self.copies);
        let origins = &*self.origins;
        let mut letters = Vec::new();
        let mut open: Vec<usize> = (0..groups.len()).collect();
        while !open.is_empty() {
            let rows = open.iter().map(|&index| groups[index].copies[0].row(origins, Likely::Stored));
            let (inserted, refused) = isolate::insert(transaction, &rows.collect::<Vec<_>>()).await?;
            for &index in &open {
                groups[index].inserted = inserted.contains(&groups[index].copies[0].key);
            }
            open = refused
                .into_iter()
                .filter_map(|refused| {
                    let index = open[refused.index];
                    let (first, others) = groups[index].copies.split_first()?;
                    letters.push(first.dead_letter(origins, &refused.code, &refused.message));
                    groups[index].copies = others;
                    (!others.is_empty()).then_some(index)
                })
                .collect();
        }
        look_up_stored(transaction, &mut groups).await?;
        Ok(Tally { letters, ..count(&groups, origins, &self.topics, self.rules) })
    }
}

/// No batch comes near as many: they are bounded in bytes.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// The copies of one key, in stream order, but for those that were refused.
struct Group<'c, 'a> {
    copies: &'c [Copy<'a>],
    /// Whether the first of them was inserted.
    inserted: bool,
    /// What is known of the key, if it was not inserted.
    standing: Standing,
}

impl Group<'_, '_> {
    /// Whether it is not known yet what is stored under the key.
    fn is_open(&self) -> bool {
        !self.inserted && !matches!(self.standing, Standing::Stored(_)) && !self.copies.is_empty()
    }

    /// The hash of the payload that is stored under the key when the transaction is committed.
    fn stored(&self) -> Option<ShortHash> {
        match self.standing {
            _ if self.inserted => self.copies.first().map(|first| first.hash),
            Standing::Stored(hash) => Some(hash),
            Standing::Contended | Standing::Seen | Standing::Unknown => None,
        }
    }
}

/// By key, and in stream order within a key: the order rows must be locked in.
fn by_key<'c, 'a>(copies: &'c mut [Copy<'a>]) -> Vec<Group<'c, 'a>> {
    // As a number, a key compares without a call.
    copies.sort_unstable_by_key(|copy| (copy.key.as_u128(), copy.ordinal));
    let groups = copies.chunk_by(|a, b| a.key == b.key);
    groups.map(|copies| Group { copies, inserted: false, standing: Standing::Unknown }).collect()
}

/// Inserts the first copies of the keys that are not known to be stored and are in `these` standings.
async fn insert_those<'a>(
    transaction: &mut dyn Transaction,
    groups: &mut [Group<'_, 'a>],
    origins: &[Origin<'a>],
    these: impl Fn(Standing) -> bool,
) -> Result<(), StoreError> {
    let mut open: Vec<_> = groups.iter_mut().filter(|group| group.is_open() && these(group.standing)).collect();
    let rows: Vec<_> = open.iter().map(|group| group.copies[0].row(origins, group.standing.into())).collect();
    if !rows.is_empty() {
        let inserted = transaction.insert_events(&rows).await?;
        for group in &mut open {
            group.inserted = inserted.contains(&group.copies[0].key);
        }
    }
    Ok(())
}

/// Waits for those that are inserting the same keys, and learns what they stored.
async fn wait_for_others(claim: &Claim<'_>, groups: &mut [Group<'_, '_>]) {
    let contended: Vec<_> = groups.iter_mut().filter(|group| group.standing == Standing::Contended).collect();
    let keys: Vec<_> = contended.iter().map(|group| group.copies[0].key).collect();
    let stored = claim.others_ended(&keys, PATIENCE).await;
    for (group, stored) in contended.into_iter().zip(stored) {
        group.standing = stored.map_or(Standing::Contended, Standing::Stored);
    }
}

/// Reads the payload hashes of keys that were stored before this batch, where they are not known.
async fn look_up_stored(transaction: &mut dyn Transaction, groups: &mut [Group<'_, '_>]) -> Result<(), StoreError> {
    let keys: Vec<_> = groups.iter().filter(|group| group.is_open()).map(|group| group.copies[0].key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let hashes = transaction.payload_hashes(&keys).await?;
    for group in groups.iter_mut().filter(|group| group.is_open()) {
        if let Some(&hash) = hashes.get(&group.copies[0].key) {
            group.standing = Standing::Stored(hash.into());
        }
    }
    Ok(())
}

/// Counts all copies by topic, once it is known what is stored under each key.
fn count<'a, 'k>(groups: &[Group<'_, 'a>], origins: &[Origin<'a>], topics: &[&'a str], rules: &Rules) -> Tally<'a, 'k> {
    let mut counts = vec![Counts::default(); topics.len()];
    let mut dropped = Vec::new();
    for group in groups {
        let stored = group.stored();
        for (place, copy) in group.copies.iter().enumerate() {
            let counts = &mut counts[copy.topic as usize];
            counts.received += 1;
            if group.inserted && place == 0 {
                counts.unique += 1;
                continue;
            }
            let conflict = stored.is_some_and(|hash| hash != copy.hash);
            counts.duplicates += 1;
            counts.conflicts += u64::from(conflict);
            let request_id = || origins[copy.origin as usize].request.id;
            if rules.audit {
                dropped.push(Dropped { key: copy.key, request_id: request_id(), conflict });
            }
            let (topic, event_id) = (&copy.event.topic, &copy.event.event_id);
            if conflict {
                tracing::info!(%topic, %event_id, request_id = %request_id(),
                    "duplicate dropped: its payload differs from the stored one");
            } else {
                tracing::debug!(%topic, %event_id, request_id = %request_id(), "duplicate dropped");
            }
        }
    }
    // All copies of a topic may have been refused.
    let counts = topics.iter().copied().zip(counts).filter(|(_, counts)| counts.received > 0).collect();
    Tally { counts, dropped, ..Tally::default() }
}

impl Tally<'_, '_> {
    /// The transaction is committed: its keys are known from now on.
    pub fn committed(self) {
        if let Some(claim) = self.claim {
            claim.settle(&self.stored);
        }
    }
}
