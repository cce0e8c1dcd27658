//! Building batches.

use std::borrow::Cow;

use sluice_event::entry::{Entry, PackedEntry, PackedRequest, Request};
use sluice_event::{EntryId, Event, ReceiptId, RequestId, Timestamp};
use sluice_log::Position;
use sluice_store::NewDeadLetter;
use sluice_store::commit::Batch;
use sluice_store::put_aside::{KeyedRequest, PutAside};

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// An event with a payload as JSON text.
pub fn event(topic: &str, id: impl ToString, payload: &str) -> Event<'static> {
    Event {
        topic: Cow::Owned(topic.to_owned()),
        event_id: Cow::Owned(id.to_string()),
        timestamp: at("2026-01-31T12:00:00Z"),
        source: None,
        payload_hash: sluice_event::canonical::hash(payload, 64).expect("JSON"),
        payload: Cow::Owned(payload.to_owned()),
    }
}

/// Events of topic `t` with these ids and equal payloads.
pub fn events<I: ToString>(ids: impl IntoIterator<Item = I>) -> Vec<Event<'static>> {
    ids.into_iter().map(|id| event("t", id, "{}")).collect()
}

pub fn from(source: &str, event: Event<'static>) -> Event<'static> {
    Event { source: Some(Cow::Owned(source.to_owned())), ..event }
}

pub fn request(events: Vec<Event<'static>>) -> Request<'static> {
    Request { id: RequestId::random(), receipt: None, waits: false, accepted_at: Timestamp::now(), events, trace: None }
}

pub fn keyed(receipt: ReceiptId, events: Vec<Event<'static>>) -> Request<'static> {
    Request { receipt: Some(receipt), ..request(events) }
}

pub fn entry(requests: Vec<Request<'static>>) -> Entry<'static> {
    Entry { id: EntryId::random(), requests }
}

pub fn position(sequence: u64) -> Position {
    Position { stream: 0, millis: 1_700_000_000_000, sequence }
}

pub fn batch(entries: Vec<Entry<'static>>) -> Batch<'static> {
    let entries = entries.into_iter().enumerate().map(|(i, entry)| (position(i as u64), entry)).collect();
    Batch { entries, ..Batch::default() }
}

/// A batch of one entry of one request.
pub fn batch_of(events: Vec<Event<'static>>) -> Batch<'static> {
    batch(vec![entry(vec![request(events)])])
}

/// The same batch again, as it is delivered again.
pub fn again(batch: &Batch<'static>) -> Batch<'static> {
    Batch { entries: batch.entries.clone(), dead_letters: batch.dead_letters.clone(), attempted: batch.attempted }
}

/// A whole entry to be stored as a dead letter.
pub fn letter(events: Vec<Event<'static>>) -> PutAside {
    letter_of(&[request(events)])
}

/// A whole entry of these requests to be stored as a dead letter.
pub fn letter_of(requests: &[Request<'static>]) -> PutAside {
    let pack = |r: &Request<'_>| PackedRequest::new(r.id, r.receipt, r.accepted_at, &r.events);
    let packed: Vec<_> = requests.iter().map(pack).collect();
    let entry = PackedEntry::new(EntryId::random(), packed.iter());
    let dead_letter = NewDeadLetter {
        position: position(7),
        event: None,
        events: entry.events,
        code: "kills_its_reader".into(),
        reason: "it was tried three times".into(),
        body: entry.body,
        receipts: None,
    };
    let keyed = Some(KeyedRequest::all_of(&Entry { id: entry.id, requests: requests.to_vec() }));
    PutAside { dead_letter, entry: Some(entry.id), keyed }
}
