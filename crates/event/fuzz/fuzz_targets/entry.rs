//! Any bytes decode to an entry or to an error, without a panic; an entry has exactly one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_event::compressed::expand;
use sluice_event::entry::{PackedEntry, PackedRequest, Request, decode};

fn pack(request: &Request<'_>) -> PackedRequest {
    let packed = PackedRequest::new(request.id, request.receipt, request.accepted_at, &request.events);
    let packed = if request.waits { packed.waiting() } else { packed };
    match request.trace {
        Some(trace) => packed.traced(trace),
        None => packed,
    }
}

fuzz_target!(|body: &[u8]| {
    let Ok(body) = expand(body) else { return };
    let Ok(entry) = decode(&body) else { return };
    let requests: Vec<_> = entry.requests.iter().map(pack).collect();
    assert_eq!(PackedEntry::new(entry.id, requests.iter()).body, *body);
});
