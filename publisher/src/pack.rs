//! A body → one packed request, with what its `Idempotency-Key` stands for.

use axum::http::StatusCode;
use sluice_event::entry::PackedRequest;
use sluice_event::key::{hash128, hash128_of_parts};
use sluice_event::{BodyHash, ErrorKind, IdempotencyKeyHash, Limits, ParseError, ReceiptId, RequestId, Timestamp};
use sluice_log::KeyedRequest;
use sluice_service::problem::Problem;

/// Who sends, in receipts and records of keys: nobody in particular, without authentication.
const SUBJECT: &[u8] = b"";

/// A validated request, packed once; from here on it is only copied.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) request: PackedRequest,
    /// Of a request that brought an `Idempotency-Key`.
    pub(crate) keyed: Option<KeyedRequest>,
}

/// Validates and packs a body.
pub(crate) fn pack(id: RequestId, key: Option<&[u8]>, body: &[u8], limits: &Limits) -> Result<Packed, Problem> {
    let now = Timestamp::now();
    let events = sluice_event::parse(body, limits, now).map_err(|error| refused(&error))?;
    let receipt = key.map(|key| ReceiptId::from_bytes(hash128_of_parts(&[SUBJECT, key, body])));
    let keyed = key.map(|key| KeyedRequest {
        key: IdempotencyKeyHash::from_bytes(hash128_of_parts(&[SUBJECT, key])),
        body_hash: BodyHash::from_bytes(hash128(body)),
    });
    Ok(Packed { request: PackedRequest::new(id, receipt, now, &events), keyed })
}

fn refused(error: &ParseError) -> Problem {
    let (status, code) = match error.kind {
        ErrorKind::Malformed => (StatusCode::BAD_REQUEST, "malformed_json"),
        ErrorKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_event"),
        ErrorKind::TooManyEvents => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_events"),
        ErrorKind::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        ErrorKind::PayloadTooDeep => (StatusCode::UNPROCESSABLE_ENTITY, "payload_too_deep"),
    };
    Problem::new(status, code, error.to_string()).at(error.index, error.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt-1","payload":{"value":100}}"#;

    #[test]
    fn a_receipt_stands_for_key_and_body_and_the_record_for_the_key_alone() {
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
