//! The packed entry: decoding returns the packed requests, other bytes are refused, and a golden file shows
//! every change of the format.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::borrow::Cow;

use proptest::prelude::*;
use sluice_event::compressed::{self, expand};
use sluice_event::entry::{COMPRESSED, DecodeError, Entry, PackedEntry, PackedRequest, Request, decode, peek_id};
use sluice_event::{EntryId, Event, PayloadHash, ReceiptId, RequestId, Timestamp};

fn packed_requests(entry: &Entry<'_>) -> Vec<PackedRequest> {
    entry.requests.iter().map(|r| PackedRequest::new(r.id, r.receipt, r.accepted_at, &r.events)).collect()
}

fn pack(entry: &Entry<'_>) -> PackedEntry {
    PackedEntry::new(entry.id, packed_requests(entry).iter())
}

/// Packs as the publisher does: compressed, if the entry becomes smaller.
fn compress(entry: &Entry<'_>) -> PackedEntry {
    compressed::pack(entry.id, packed_requests(entry).iter())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn sample() -> Entry<'static> {
    let event = |topic: &'static str, id: &'static str, source: Option<&'static str>, payload: &'static str| Event {
        topic: topic.into(),
        event_id: id.into(),
        timestamp: at("2026-01-31T12:00:00.000001Z"),
        source: source.map(Cow::Borrowed),
        payload_hash: sluice_event::canonical::hash(payload, 64).unwrap(),
        payload: payload.into(),
    };
    Entry {
        id: EntryId::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        requests: vec![
            Request {
                id: RequestId::from_u128(1),
                receipt: None,
                accepted_at: at("1969-12-31T23:59:59Z"),
                events: vec![event("orders", "evt-1", Some("shop"), r#"{"value": 1.0}"#)],
            },
            Request {
                id: RequestId::from_u128(2),
                receipt: Some(ReceiptId::from_u128(3)),
                accepted_at: at("2026-01-31T12:00:00Z"),
                events: vec![event("default", "é", None, "null"), event("t", "2", Some(""), "[1,2]")],
            },
        ],
    }
}

#[test]
fn the_format_is_the_one_in_the_golden_file() {
    let hex: String = pack(&sample()).body.iter().map(|b| format!("{b:02x}")).collect();
    let golden = include_str!("entry.v1.hex");
    assert_eq!(hex, golden.trim(), "entries already in a stream could not be read: raise entry::VERSION instead");
    let bytes: Vec<u8> =
        (0..golden.trim().len() / 2).map(|i| u8::from_str_radix(&golden[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert_eq!(decode(&bytes).unwrap(), sample());
}

#[test]
fn an_unknown_version_is_told_from_corruption() {
    let mut body = pack(&sample()).body;
    body[0] = 3;
    assert_eq!(decode(&expand(&body).unwrap()), Err(DecodeError::UnknownVersion(3)));
    assert!(matches!(decode(&[]), Err(DecodeError::Corrupt(_))));
}

/// An entry large enough to be compressed.
fn large() -> Entry<'static> {
    let mut entry = sample();
    let requests = entry.requests.clone();
    for _ in 0..20 {
        entry.requests.extend(requests.clone());
    }
    entry
}

#[test]
fn a_compressed_entry_of_any_earlier_build_is_read() {
    let golden = include_str!("entry.v2.hex").trim();
    let byte = |at: usize| u8::from_str_radix(&golden[at..at + 2], 16).unwrap();
    let body: Vec<u8> = (0..golden.len()).step_by(2).map(byte).collect();
    assert_eq!(decode(&expand(&body).unwrap()).unwrap(), large());
    assert_eq!(peek_id(&body), Some(large().id));
}

#[test]
fn a_large_entry_is_compressed_unless_it_would_not_become_smaller() {
    let plain = pack(&large());
    let compressed = compress(&large());
    assert_eq!((compressed.id, compressed.events), (plain.id, plain.events));
    assert!(compressed.body[0] == COMPRESSED && compressed.body.len() < plain.body.len() / 4);
    let small = pack(&sample());
    assert_eq!(compress(&sample()), small);
    let noise = |n: u32| noise_of(n).to_string();
    let mut random = sample();
    random.requests[0].events[0].payload = (0..60).map(noise).collect::<String>().into();
    assert_eq!(*expand(&compress(&random).body).unwrap(), *pack(&random).body);
}

fn noise_of(n: u32) -> PayloadHash {
    PayloadHash::from_bytes(sluice_event::key::hash128(&n.to_le_bytes()))
}

#[test]
fn a_compressed_entry_that_is_cut_or_changed_is_refused_or_read_and_never_panics() {
    let body = compress(&large()).body;
    for length in 1..body.len() {
        assert!(expand(&body[..length]).is_err(), "{length} of {} bytes", body.len());
    }
    for at in 1..body.len() {
        let mut body = body.clone();
        body[at] ^= 0x81;
        let _ = expand(&body).map(|body| decode(&body).is_ok());
    }
    // A length that is larger than the block can expand to is refused.
    let mut body = body;
    body[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(expand(&body), Err(DecodeError::Corrupt(_))));
}

#[test]
fn every_truncation_is_refused() {
    let body = pack(&sample()).body;
    for length in 0..body.len() {
        assert!(decode(&body[..length]).is_err(), "{length} of {} bytes", body.len());
    }
}

fn timestamps() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000..=253_402_207_200_999_999_i64).prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

prop_compose! {
    fn events()(topic in ".{1,200}", id in ".{1,40}", timestamp in timestamps(), source in prop::option::of(".{0,20}"), payload in ".{0,300}", hash in any::<u128>()) -> Event<'static> {
        Event { topic: topic.into(), event_id: id.into(), timestamp, source: source.map(Cow::Owned), payload: payload.into(), payload_hash: PayloadHash::from_u128(hash) }
    }
}

prop_compose! {
    fn requests()(id in any::<u128>(), receipt in prop::option::of(any::<u128>()), accepted_at in timestamps(), events in prop::collection::vec(events(), 0..5)) -> Request<'static> {
        Request { id: RequestId::from_u128(id), receipt: receipt.map(ReceiptId::from_u128), accepted_at, events }
    }
}

proptest! {
    #[test]
    fn decoding_returns_the_packed_requests(id in any::<u128>(), requests in prop::collection::vec(requests(), 0..5)) {
        let entry = Entry { id: EntryId::from_u128(id), requests };
        let packed = pack(&entry);
        prop_assert_eq!(packed.events, entry.requests.iter().map(|r| r.events.len() as u64).sum::<u64>());
        let compressed = compress(&entry);
        prop_assert_eq!(decode(&packed.body).unwrap(), entry);
        prop_assert_eq!(&*expand(&compressed.body).unwrap(), &packed.body);
    }

    #[test]
    fn accepted_bytes_have_exactly_one_encoding(mut body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = body.first_mut() { *first = 1; }
        if let Ok(entry) = decode(&body) {
            prop_assert_eq!(pack(&entry).body, body);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(at in any::<prop::sample::Index>(), with in 1_u8..) {
        let mut body = pack(&sample()).body;
        let at = at.index(body.len());
        body[at] ^= with;
        let _ = decode(&body);
    }
}
