//! The packed entry: decoding returns the packed requests, other bytes are refused, and a golden file shows
//! every change of the format.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use std::borrow::Cow;

use proptest::prelude::*;
use sluice_event::compressed::{self, expand};
use sluice_event::entry::{
    CHECKED, DecodeError, Entry, PackedEntry, PackedRequest, Request, TRACED, WAITING, decode, peek_id,
};
use sluice_event::{EntryId, Event, PayloadHash, ReceiptId, RequestId, Timestamp, TraceContext};

fn packed_requests(entry: &Entry<'_>) -> Vec<PackedRequest> {
    let packed = |r: &Request<'_>| {
        let packed = PackedRequest::new(r.id, r.receipt, r.accepted_at, &r.events);
        let packed = if r.waits { packed.waiting() } else { packed };
        match r.trace {
            Some(trace) => packed.traced(trace),
            None => packed,
        }
    };
    entry.requests.iter().map(packed).collect()
}

fn pack(entry: &Entry<'_>) -> PackedEntry {
    PackedEntry::new(entry.id, packed_requests(entry).iter())
}

/// Packs as the publisher does: with a checksum, and compressed if the entry becomes smaller.
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
                waits: false,
                accepted_at: at("1969-12-31T23:59:59Z"),
                events: vec![event("orders", "evt-1", Some("shop"), r#"{"value": 1.0}"#)],
                trace: None,
            },
            Request {
                id: RequestId::from_u128(2),
                receipt: Some(ReceiptId::from_u128(3)),
                waits: false,
                accepted_at: at("2026-01-31T12:00:00Z"),
                events: vec![event("default", "é", None, "null"), event("t", "2", Some(""), "[1,2]")],
                trace: None,
            },
        ],
    }
}

/// Reads a golden file.
fn bytes_of(golden: &str) -> Vec<u8> {
    let golden = golden.trim();
    (0..golden.len()).step_by(2).map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_format_is_the_one_in_the_golden_files() {
    let changed = "entries already in a stream could not be read: a new format needs a new version byte";
    let golden = bytes_of(include_str!("entry.v1.hex"));
    assert_eq!(pack(&sample()).body, golden, "{changed}");
    assert_eq!(decode(&golden).unwrap(), sample());
    // The compressed form may differ from one build of LZ4 to the next.
    let golden = bytes_of(include_str!("entry.v3.hex"));
    assert_eq!(compress(&sample()).body, golden, "{changed}");
    assert_eq!(decode(&expand(&golden).unwrap()).unwrap(), sample());
    assert_eq!(peek_id(&golden), Some(sample().id));
}

#[test]
fn an_entry_with_a_request_whose_client_waits_is_left_by_older_readers_and_is_else_the_same() {
    let mut waiting = sample();
    waiting.requests[1].waits = true;
    let packed = packed_requests(&waiting);
    let body = compress(&waiting).body;
    assert_eq!(body, bytes_of(include_str!("entry.v4.hex")), "entries already in a stream could not be read");
    assert_eq!(body[0], WAITING);
    assert_eq!(decode(&expand(&body).unwrap()).unwrap(), waiting);
    assert_eq!(peek_id(&body), Some(waiting.id));
    let without_receipt = [packed[0].clone().waiting()];
    let body = compressed::pack(waiting.id, without_receipt.iter()).body;
    assert_eq!(decode(&expand(&body).unwrap()), Err(DecodeError::Corrupt("a request waits without a receipt")));
}

#[test]
fn an_entry_with_a_request_that_is_traced_is_left_by_older_readers_and_is_else_the_same() {
    let mut traced = sample();
    traced.requests[0].trace = Some(TraceContext { trace_id: *b"0123456789abcdef", span_id: *b"spanspan" });
    traced.requests[1].waits = true;
    let packed = packed_requests(&traced);
    assert_eq!((packed[0].trace(), packed[1].trace()), (traced.requests[0].trace, None));
    assert_eq!(packed[0].len(), packed_requests(&sample())[0].len() + TraceContext::BYTES);
    let body = compress(&traced).body;
    assert_eq!(body, bytes_of(include_str!("entry.v5.hex")), "entries already in a stream could not be read");
    assert_eq!(body[0], TRACED);
    assert_eq!(decode(&expand(&body).unwrap()).unwrap(), traced);
    assert_eq!(peek_id(&body), Some(traced.id));
}

#[test]
fn a_newer_version_is_told_from_damage_by_the_checksum() {
    let mut body = compress(&sample()).body;
    body[0] = 9;
    assert_eq!(expand(&body), Err(DecodeError::Damaged));
    let end = body.len() - 4;
    let checksum = crc32fast::hash(&body[..end]);
    body[end..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&expand(&body).unwrap()), Err(DecodeError::UnknownVersion(9)));
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
    for golden in [include_str!("entry.v2.hex"), include_str!("entry.v3-compressed.hex")] {
        let body = bytes_of(golden);
        assert_eq!(decode(&expand(&body).unwrap()).unwrap(), large());
        assert_eq!(peek_id(&body), Some(large().id));
    }
}

#[test]
fn a_large_entry_is_compressed_unless_it_would_not_become_smaller() {
    let plain = pack(&large());
    let compressed = compress(&large());
    assert_eq!((compressed.id, compressed.events), (plain.id, plain.events));
    assert!(compressed.body[0] == CHECKED && compressed.body.len() < plain.body.len() / 4);
    assert_eq!(compressed::expanded_len(&compressed.body), plain.body.len());
    let small = compress(&sample());
    assert_eq!(small.body.len(), pack(&sample()).body.len() + 8, "a length and a checksum more");
    let uncompressed = compressed::pack_uncompressed(large().id, packed_requests(&large()).iter());
    assert_eq!((uncompressed.body.len(), uncompressed.events), (plain.body.len() + 8, plain.events));
    assert_eq!(*expand(&uncompressed.body).unwrap(), *plain.body);
    assert_eq!(compressed::expanded_len(&small.body), small.body.len());
    let noise = |n: u32| noise_of(n).to_string();
    let mut random = sample();
    random.requests[0].events[0].payload = (0..60).map(noise).collect::<String>().into();
    assert_eq!(*expand(&compress(&random).body).unwrap(), *pack(&random).body);
}

fn noise_of(n: u32) -> PayloadHash {
    PayloadHash::from_bytes(sluice_event::key::hash128(&n.to_le_bytes()))
}

#[test]
fn an_entry_of_which_any_byte_is_changed_or_cut_off_is_damaged() {
    for body in [compress(&sample()).body, compress(&large()).body] {
        for length in 1..body.len() {
            assert_eq!(expand(&body[..length]), Err(DecodeError::Damaged), "{length} of {} bytes", body.len());
        }
        for at in 0..body.len() {
            for with in [0x01, 0x20, 0x80, 0xff] {
                let mut body = body.clone();
                body[at] ^= with;
                let read = expand(&body).and_then(|body| decode(&body).map(|_| ()));
                // A changed version byte may say that there is no checksum: then the bytes are none of that version.
                assert!(
                    matches!(read, Err(DecodeError::Damaged | DecodeError::Corrupt(_))),
                    "{with:#x} at {at}: {read:?}"
                );
                assert!(at == 0 || read == Err(DecodeError::Damaged), "{with:#x} at {at}: {read:?}");
            }
        }
    }
}

#[test]
fn an_entry_of_version_2_that_is_cut_or_changed_is_refused_or_read_and_never_panics() {
    let body = bytes_of(include_str!("entry.v2.hex"));
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
    fn requests()(id in any::<u128>(), receipt in prop::option::of(any::<u128>()), accepted_at in timestamps(), events in prop::collection::vec(events(), 0..5), trace in prop::option::of(any::<[u8; 24]>())) -> Request<'static> {
        let trace = trace.map(|bytes| TraceContext::from_bytes(&bytes));
        Request { id: RequestId::from_u128(id), receipt: receipt.map(ReceiptId::from_u128), waits: receipt.is_some() && id % 2 == 0, accepted_at, events, trace }
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
