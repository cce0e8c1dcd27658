//! Any body parses to events or to an error, without a panic. serde_json accepts every accepted body as
//! JSON and refuses every body that is refused as malformed. Accepted events are the same after packing
//! and decoding, and their payloads have the hash in the event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};
use sluice_event::entry::{PackedEntry, PackedRequest, decode};
use sluice_event::{ErrorKind, Format, Limits, Timestamp, canonical, parse, parse_all};

fuzz_target!(|body: &[u8]| {
    let limits = Limits { events: 50, payload_bytes: 4096, payload_depth: 16, ..Limits::default() };
    let now = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    if let Err(refused) = parse_all(body, Format::Lines, &limits, now) {
        assert!(refused.faults.count() >= refused.faults.kept().len() && !refused.faults.kept().is_empty());
    }
    let all = parse_all(body, Format::Document, &limits, now).map_err(|refused| refused.first);
    assert_eq!(all, parse(body, &limits, now));
    let events = match all {
        Ok(events) => events,
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.kind != ErrorKind::Malformed || serde_json::from_slice::<Value>(body).is_err());
            return;
        }
    };
    // Not a `Value`: an accepted body may be nested deeper, and have larger numbers, than a `Value` can be.
    serde_json::from_slice::<&RawValue>(body).unwrap();
    assert!(!events.is_empty() && events.len() <= limits.events);
    for event in &events {
        assert!(!event.topic.trim().is_empty() && !event.event_id.trim().is_empty());
        assert!(!event.topic.contains('\0') && !event.event_id.contains('\0'));
        assert_eq!(canonical::hash(&event.payload, limits.payload_depth).unwrap(), event.payload_hash);
        assert_eq!(event.timestamp.to_string().parse::<Timestamp>().unwrap(), event.timestamp);
    }
    let id = Default::default();
    let request = PackedRequest::new(id, None, now, &events);
    let entry = PackedEntry::new(id, [&request].into_iter());
    assert_eq!(decode(&entry.body).unwrap().requests[0].events, events);
});
