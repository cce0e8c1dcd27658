//! Advisory locks, which processes that share a schema use for mutual exclusion.

/// Returns the id of the advisory lock of a schema for one purpose.
pub(super) fn lock_id(schema: &str, purpose: &str) -> i64 {
    let hash = sluice_event::key::hash128_of_parts(&[b"sluice", purpose.as_bytes(), schema.as_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}
