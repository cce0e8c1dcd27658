//! The cases, each with a request of 100 events of 365 bytes as the load generator sends it.

use std::error::Error;
use std::hint::black_box;

use sluice_event::compressed;
use sluice_event::entry::{self, PackedEntry, PackedRequest};
use sluice_event::{EntryId, Event, EventKey, Keyer, Limits, ParseError, RequestId, Timestamp, canonical};
use sluice_pgcopy::event_row::{EventRow, put_row};

/// One event per line.
const BODY: &[u8] = include_bytes!("../events.json");

/// A case prepares its input, then runs its step with [`counted`].
type Case = fn() -> Result<(), Box<dyn Error>>;

/// To add a case, add it here and run `make bench-instructions-accept`.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("parse", parse),
    ("key", key),
    ("pack", pack),
    ("compress", compress),
    ("expand", expand),
    ("unpack", unpack),
    ("encode", encode),
    ("check", check),
];

/// Runs a step twice: first to initialise everything that is initialised once, then to count it.
fn counted<R>(mut step: impl FnMut() -> R) {
    step();
    sluice_counted(&mut || drop(black_box(step())));
}

/// Valgrind counts the instructions of this function; the script finds it by its name.
#[inline(never)]
fn sluice_counted(step: &mut dyn FnMut()) {
    step();
}

fn events() -> Result<Vec<Event<'static>>, ParseError> {
    sluice_event::parse(BODY, &Limits::default(), now())
}

fn now() -> Timestamp {
    // A constant, because the number of instructions depends on the digits of the time.
    Timestamp::from_micros(1_700_000_000_000_000).unwrap_or_else(Timestamp::now)
}

const ENTRY_ID: EntryId = EntryId::from_u128(2);

fn request(events: &[Event<'_>]) -> PackedRequest {
    PackedRequest::new(RequestId::from_u128(1), None, now(), events)
}

fn packed(events: &[Event<'_>]) -> PackedEntry {
    PackedEntry::new(ENTRY_ID, [request(events)].iter())
}

fn parse() -> Result<(), Box<dyn Error>> {
    events()?;
    counted(|| sluice_event::parse(black_box(BODY), &Limits::default(), now()));
    Ok(())
}

fn key() -> Result<(), Box<dyn Error>> {
    let (events, keyer) = (events()?, Keyer::default());
    counted(|| {
        for event in black_box(&events) {
            black_box(keyer.key(event));
        }
    });
    Ok(())
}

fn pack() -> Result<(), Box<dyn Error>> {
    let events = events()?;
    counted(|| packed(black_box(&events)));
    Ok(())
}

fn unpack() -> Result<(), Box<dyn Error>> {
    let entry = packed(&events()?);
    entry::decode(&entry.body)?;
    counted(|| entry::decode(black_box(&entry.body)).map(drop));
    Ok(())
}

fn compress() -> Result<(), Box<dyn Error>> {
    let requests = [request(&events()?)];
    counted(|| compressed::pack(ENTRY_ID, black_box(&requests).iter()));
    Ok(())
}

fn expand() -> Result<(), Box<dyn Error>> {
    let entry = compressed::pack(ENTRY_ID, [request(&events()?)].iter());
    compressed::expand(&entry.body)?;
    counted(|| compressed::expand(black_box(&entry.body)).map(drop));
    Ok(())
}

/// What a query does to compare the rows that it read with their hashes.
fn check() -> Result<(), Box<dyn Error>> {
    let (events, keyer) = (events()?, Keyer::default());
    counted(|| {
        black_box(&events).iter().all(|event| {
            let hash = canonical::hash(&event.payload, 100);
            let key = keyer.key_of(&event.topic, &event.event_id, event.source.as_deref());
            hash == Ok(event.payload_hash) && key != EventKey::from_u128(0)
        })
    });
    Ok(())
}

fn encode() -> Result<(), Box<dyn Error>> {
    let events = events()?;
    let mut out = Vec::with_capacity(64 << 10);
    counted(|| {
        out.clear();
        for event in black_box(&events) {
            let (key, request_id) = (EventKey::from_u128(3), RequestId::from_u128(4));
            put_row(&mut out, &EventRow { key, seq: 5, received_at: now(), request_id, event }, &[]);
        }
    });
    Ok(())
}
