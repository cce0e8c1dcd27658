//! The comparison at the end of a schedule: the four promises, against what the clients sent and what the log
//! was given.

use std::collections::{BTreeMap, BTreeSet};

use sluice_event::{EventKey, Keyer, PayloadHash, RequestId, canonical, compressed, entry};
use sluice_store::Counts;

use crate::requests::{Answer, SentEvent, SentRequest};
use crate::store::server::StoreServer;
use crate::system::System;
use crate::world::{Clock, lock};

/// Compares everything and records each difference as a violation. The system must be quiet.
pub fn check(system: &System) {
    let store = lock(&system.store.server);
    let appended = Appended::read(lock(&system.log.server).archive(), &store);
    let mut differences = Vec::new();
    let mut expected = Expected::default();
    let mut seen = BTreeSet::new();
    for (number, request) in system.requests.all().iter().enumerate() {
        if request
            .sendings
            .iter()
            .any(|sending| appended.undecided.contains(sending) || appended.gone.contains(sending))
        {
            expected.leave_open(request);
            continue;
        }
        let was_appended = request.sendings.iter().any(|sending| appended.requests.contains_key(sending));
        let must_be_stored = request.sendings.iter().any(|sending| appended.requests.get(sending) == Some(&true));
        match request.answer {
            Answer::Accepted if !was_appended => differences.push(format!("request {number} was accepted and is lost")),
            Answer::KeyReused if was_appended => {
                differences.push(format!("request {number} was refused and is stored"))
            }
            _ => {}
        }
        // Two clients that send one body under one key have made the same request.
        let same = request.key.clone().map(|key| (key, request.body()));
        if must_be_stored && same.is_none_or(|same| seen.insert(same)) {
            expected.add(request);
        }
    }
    differences.extend(appended.undecodable.iter().map(|error| format!("an entry cannot be decoded: {error}")));
    let dead = dead_letters(&store);
    compare_counts(&expected, &dead, &store, &mut differences);
    compare_rows(&expected, &dead, &store, &mut differences);
    compare_losses(system, &store, &mut differences);
    differences.into_iter().for_each(|difference| system.world.violation(difference));
}

/// What was appended to the log.
#[derive(Default)]
struct Appended {
    /// The requests, by their ids, and whether each must be stored: whether it belongs to no dead letter that is a
    /// whole entry.
    requests: BTreeMap<RequestId, bool>,
    /// The requests with a key of which one entry is a dead letter whose keys were not read, because that had killed its
    /// reader too. Such an entry has no receipts of its requests until it is delivered again. So if a request was sent a
    /// second time, in another entry, that one is stored or skipped, depending on which came first.
    undecided: BTreeSet<RequestId>,
    /// The requests of which an entry was lost by the store, and was outside the replay window.
    gone: BTreeSet<RequestId>,
    undecodable: Vec<String>,
}

impl Appended {
    fn read(archive: &[bytes::Bytes], store: &StoreServer) -> Self {
        let whole: Vec<_> = store.dead_letters.values().filter(|letter| letter.event.is_none()).collect();
        let dead: BTreeMap<_, _> = whole
            .iter()
            .filter_map(|letter| Some((entry::peek_id(&letter.body)?, letter.receipts.is_some())))
            .collect();
        let dead_receipts: BTreeSet<_> = whole.iter().flat_map(|letter| letter.receipts.iter().flatten()).collect();
        let mut appended = Self::default();
        let mut of_receipt: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut unread = BTreeSet::new();
        for body in archive {
            let expanded = compressed::expand(body);
            let entry = expanded.as_ref().map_err(Clone::clone).and_then(|body| entry::decode(body));
            match entry {
                Ok(entry) => {
                    let dead = dead.get(&entry.id).copied();
                    if store.is_gone(entry.id) {
                        appended.gone.extend(entry.requests.iter().map(|request| request.id));
                    }
                    for request in entry.requests {
                        if let Some(receipt) = request.receipt {
                            of_receipt.entry(receipt).or_default().insert(request.id);
                            unread.extend((dead == Some(false)).then_some(receipt));
                        }
                        let is_alive = match (request.receipt, dead) {
                            // It is wherever its receipt was stored first: in a dead letter, or in the store.
                            (Some(receipt), None | Some(true)) => !dead_receipts.contains(&receipt),
                            (Some(_), Some(false)) => false,
                            (None, dead) => dead.is_none(),
                        };
                        *appended.requests.entry(request.id).or_default() |= is_alive;
                    }
                }
                Err(error) => appended.undecodable.push(error.to_string()),
            }
        }
        let sent_again = unread.iter().map(|receipt| &of_receipt[receipt]).filter(|requests| requests.len() > 1);
        appended.undecided = sent_again.flatten().copied().collect();
        appended
    }
}

/// What must be stored.
#[derive(Default)]
struct Expected {
    /// Arrivals by topic.
    arrivals: BTreeMap<String, u64>,
    /// Arrivals by key.
    by_key: BTreeMap<EventKey, Vec<SentEvent>>,
    /// Topics and keys of requests that may be stored or not.
    open_topics: BTreeSet<String>,
    open_keys: BTreeSet<EventKey>,
}

impl Expected {
    fn leave_open(&mut self, request: &SentRequest) {
        self.open_topics.extend(request.events.iter().map(|event| event.topic.clone()));
        self.open_keys.extend(request.events.iter().map(|event| key(&event.topic, &event.id)));
    }

    fn add(&mut self, request: &SentRequest) {
        for event in &request.events {
            *self.arrivals.entry(event.topic.clone()).or_default() += 1;
            self.by_key.entry(key(&event.topic, &event.id)).or_default().push(event.clone());
        }
    }
}

fn key(topic: &str, id: &str) -> EventKey {
    Keyer::default().key_of(topic, id, None)
}

fn hash(event: &SentEvent) -> Option<PayloadHash> {
    canonical::hash(&event.payload, 8).ok()
}

/// The events that are dead letters of their own: by topic, and by key.
struct Dead {
    by_topic: BTreeMap<String, u64>,
    by_key: BTreeMap<EventKey, usize>,
}

fn dead_letters(store: &StoreServer) -> Dead {
    let mut dead = Dead { by_topic: BTreeMap::new(), by_key: BTreeMap::new() };
    let mut add = |topic: &str, id: &str| {
        *dead.by_topic.entry(topic.to_owned()).or_default() += 1;
        *dead.by_key.entry(key(topic, id)).or_default() += 1;
    };
    for letter in store.dead_letters.values() {
        if let Some((topic, id)) = &letter.event {
            add(topic, id);
        }
    }
    dead
}

/// Accepted = received + dead-lettered, and received = unique + duplicates, in each topic.
fn compare_counts(expected: &Expected, dead: &Dead, store: &StoreServer, differences: &mut Vec<String>) {
    let topics: BTreeSet<_> = expected.arrivals.keys().chain(store.counters.keys()).collect();
    for topic in topics {
        let arrivals = expected.arrivals.get(topic).copied().unwrap_or_default();
        let dead = dead.by_topic.get(topic).copied().unwrap_or_default();
        let counts = store.counters.get(topic).copied().unwrap_or_default();
        let Counts { received, unique, duplicates, .. } = counts;
        if received != unique + duplicates {
            differences.push(format!("topic {topic}: {received} received ≠ {unique} unique + {duplicates} duplicates"));
        }
        let is_open = expected.open_topics.contains(topic);
        if arrivals != received + dead && !is_open {
            differences
                .push(format!("topic {topic}: {arrivals} arrivals ≠ {received} received + {dead} dead-lettered"));
        }
        let rows = store.events.rows().filter(|(_, row)| row.topic == *topic).count() as u64;
        let removed: u64 = store
            .removed
            .iter()
            .filter(|(key, _)| expected.by_key.get(key).is_some_and(|events| events[0].topic == *topic))
            .map(|(_, removed)| removed)
            .sum();
        if unique != rows + removed && !is_open {
            differences.push(format!("topic {topic}: {unique} unique ≠ {rows} rows + {removed} removed"));
        }
        // A duplicate of an event that was lost unseen was compared with its payload.
        if removed == 0 && dead == 0 && !is_open && store.lost_unseen.is_empty() {
            let conflicts = conflicts(expected, store, topic);
            if counts.conflicts != conflicts {
                differences.push(format!("topic {topic}: {} conflicts counted ≠ {conflicts}", counts.conflicts));
            }
        }
    }
}

/// Returns the number of arrivals whose payload differs from the one that is stored.
fn conflicts(expected: &Expected, store: &StoreServer, topic: &str) -> u64 {
    let rows = store.events.rows().filter(|(_, row)| row.topic == *topic);
    let differing = rows.flat_map(|(key, row)| {
        let arrivals = expected.by_key.get(key).into_iter().flatten();
        arrivals.filter(|event| hash(event) != Some(row.hash))
    });
    differing.count() as u64
}

/// Each accepted event is stored once, with a payload that was sent; nothing else is stored.
fn compare_rows(expected: &Expected, dead: &Dead, store: &StoreServer, differences: &mut Vec<String>) {
    let is_decided = |key: &EventKey| !expected.open_keys.contains(key);
    for (key, events) in expected.by_key.iter().filter(|(key, _)| is_decided(key)) {
        let SentEvent { topic, id, .. } = &events[0];
        let alive = events.len() - dead.by_key.get(key).copied().unwrap_or_default().min(events.len());
        let removed = store.removed.get(key).copied().unwrap_or_default();
        match store.events.find(*key) {
            None if alive > 0 && removed == 0 => differences.push(format!("event {topic}/{id} is lost")),
            Some(_) if alive == 0 => differences.push(format!("event {topic}/{id} is stored and dead-lettered")),
            Some(row) if !events.iter().any(|event| hash(event) == Some(row.hash)) => {
                differences.push(format!("event {topic}/{id} is stored with a payload that was not sent"));
            }
            _ => {}
        }
    }
    let unknown = |key: &EventKey| is_decided(key) && !expected.by_key.contains_key(key);
    for row in store.events.rows().filter(|(key, _)| unknown(key)).map(|(_, row)| row) {
        differences.push(format!("event {}/{} is stored and was not sent", row.topic, row.event_id));
    }
}

/// What is lost although it was accepted is reported. The times in a report are those of two clocks. Behind a pooler that
/// hides a failover, others may have committed after the loss, and then it is said to be later: a known gap.
fn compare_losses(system: &System, store: &StoreServer, differences: &mut Vec<String>) {
    let clocks_agree = [Clock::Log, Clock::Store].into_iter().all(|clock| system.world.is_exact(clock));
    let is_exact = clocks_agree && !system.settings.has_pooler;
    let is_reported = lock(&system.log.server).losses.iter().any(|loss| !loss.is_covered());
    if let Some(gone) = store.gone().next()
        && is_exact
        && !is_reported
    {
        differences.push(format!("entry {gone} is lost, and every loss was reported as covered by the window"));
    }
}
