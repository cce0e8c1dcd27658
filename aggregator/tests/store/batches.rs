//! Building batches.

use std::borrow::Cow;

use sluice_aggregator::store::NewDeadLetter;
use sluice_aggregator::store::commit::Batch;
use sluice_event::entry::{Entry, PackedEntry, PackedRequest, Request};
use sluice_event::{Event, Timestamp};
use sluice_log::Position;
use uuid::Uuid;

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
    Request { id: Uuid::new_v4(), receipt: None, accepted_at: Timestamp::now(), events }
}

pub fn keyed(receipt: Uuid, events: Vec<Event<'static>>) -> Request<'static> {
    Request { receipt: Some(receipt), ..request(events) }
}

pub fn entry(requests: Vec<Request<'static>>) -> Entry<'static> {
    Entry { id: Uuid::new_v4(), requests }
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
    Batch { entries: batch.entries.clone(), letters: batch.letters.clone(), attempted: batch.attempted }
}

/// A whole entry to be put aside, with its id.
pub fn letter(events: Vec<Event<'static>>) -> (NewDeadLetter, Option<Uuid>) {
    let request = request(events);
    let packed = PackedRequest::new(request.id, request.receipt, request.accepted_at, &request.events);
    let entry = PackedEntry::new(Uuid::new_v4(), [&packed].into_iter());
    let letter = NewDeadLetter {
        position: position(7),
        event: None,
        events: entry.events,
        code: "kills_its_reader".into(),
        reason: "it was tried three times".into(),
        body: entry.body,
    };
    (letter, Some(entry.id))
}
