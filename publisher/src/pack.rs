//! Turns a body into one packed request, with the ids that follow from its `Idempotency-Key`.

use sluice_event::entry::PackedRequest;
use sluice_event::key::{hash128, hash128_of_parts};
use sluice_event::{BodyHash, IdempotencyKeyHash, Limits, ReceiptId, RequestId, Timestamp};
use sluice_log::KeyedRequest;
use sluice_service::problem::Problem;

use crate::problems::invalid_body;

/// The sender, as a part of receipts and of key hashes: empty as long as nobody is authenticated.
const SUBJECT: &[u8] = b"";

/// A validated request, packed once: an entry contains a byte-for-byte copy of it.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) request: PackedRequest,
    /// The hashes of key and body, if the request has an `Idempotency-Key`.
    pub(crate) keyed: Option<KeyedRequest>,
}

/// Validates and packs a body.
///
/// # Errors
/// The problem of [`invalid_body`].
pub(crate) fn pack(id: RequestId, key: Option<&[u8]>, body: &[u8], limits: &Limits) -> Result<Packed, Problem> {
    let now = Timestamp::now();
    let events = sluice_event::parse(body, limits, now).map_err(|error| invalid_body(&error))?;
    let receipt = key.map(|key| ReceiptId::from_bytes(hash128_of_parts(&[SUBJECT, key, body])));
    let keyed = key.map(|key| KeyedRequest {
        key: IdempotencyKeyHash::from_bytes(hash128_of_parts(&[SUBJECT, key])),
        body_hash: BodyHash::from_bytes(hash128(body)),
    });
    Ok(Packed { request: PackedRequest::new(id, receipt, now, &events), keyed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt-1","payload":{"value":100}}"#;

    #[test]
    fn a_receipt_follows_from_key_and_body_and_the_key_hash_from_the_key_alone() {
        let pack =
            |key: &'static [u8], body| pack(RequestId::from_u128(0), Some(key), body, &Limits::default()).unwrap();
        let first = pack(b"k", BODY);
        let other_body = pack(b"k", br#"{"id":"evt-2","payload":{"value":100}}"#);
        let other_key = pack(b"l", BODY);
        let (first, other_body, other_key) =
            (first.keyed.unwrap(), other_body.keyed.unwrap(), other_key.keyed.unwrap());
        assert_eq!(first.key, other_body.key);
        assert_ne!(first.body_hash, other_body.body_hash);
        assert_ne!(first.key, other_key.key);
        assert_eq!(first.body_hash, other_key.body_hash);
    }

    #[test]
    fn a_request_without_a_key_has_neither() {
        let packed = pack(RequestId::from_u128(0), None, BODY, &Limits::default()).unwrap();
        assert!(packed.keyed.is_none());
        assert_eq!(packed.request.events(), 1);
    }

    #[test]
    fn a_refusal_names_the_place() {
        let problem = pack(
            RequestId::from_u128(0),
            None,
            br#"[{"id":"1","payload":1},{"id":" ","payload":1}]"#,
            &Limits::default(),
        );
        let problem = serde_json::to_value(problem.unwrap_err()).unwrap();
        assert_eq!((&problem["code"], &problem["index"]), (&"invalid_event".into(), &1.into()), "{problem}");
    }
}
