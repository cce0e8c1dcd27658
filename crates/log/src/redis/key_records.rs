//! The bound on the records of `Idempotency-Key`s, as a share of Redis' memory.
//!
//! A record only serves to refuse a key that is used again with another body. What makes a repeated request count once
//! are the receipts in the store. So when the records have reached their share, the oldest are removed.

/// The memory of one record in a hash of Redis: 96 to 107 bytes, measured with up to a million records, and some more.
const RECORD_BYTES: f64 = 128.0;
/// What the share refers to when Redis has no limit: 1 GiB.
const UNLIMITED: f64 = (1u64 << 30) as f64;
/// There are two hashes per stream ([`super::append`]).
const HASHES: f64 = 2.0;

/// Returns the maximum number of records in each hash of a stream.
pub(super) fn max_records(share: f64, max_memory: Option<f64>, streams: u16) -> u64 {
    let bytes = share * max_memory.unwrap_or(UNLIMITED) / f64::from(streams.max(1));
    // The conversion saturates.
    (bytes / HASHES / RECORD_BYTES).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_divided_among_the_hashes_of_all_streams() {
        assert_eq!(max_records(0.2, Some(1_280_000.0), 1), 1_000);
        assert_eq!(max_records(0.2, Some(1_280_000.0), 4), 250);
        assert_eq!(max_records(0.5, None, 1), 2 * 1_048_576);
        assert_eq!(max_records(0.2, Some(1.0), 1), 1);
    }
}
