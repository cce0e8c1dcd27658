//! Any bytes decode to an entry or to an error, without a panic; an entry has exactly one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_event::compressed::expand;
use sluice_event::entry::{PackedEntry, PackedRequest, decode};

fuzz_target!(|body: &[u8]| {
    let Ok(body) = expand(body) else { return };
    let Ok(entry) = decode(&body) else { return };
    let requests: Vec<_> =
        entry.requests.iter().map(|r| PackedRequest::new(r.id, r.receipt, r.accepted_at, &r.events)).collect();
    assert_eq!(PackedEntry::new(entry.id, requests.iter()).body, *body);
});
