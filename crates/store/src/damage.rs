//! Recognises rows that are damaged: each row has hashes of its own content, and no database compares them.

use sluice_event::{EventKey, Keyer, PayloadHash, canonical};

use crate::StoredEvent;

/// The deepest nesting of a payload that is hashed: more than any publisher accepts.
const MAX_DEPTH: usize = 1_024;

/// The columns of a row of events that its hashes are computed from, and the hashes.
#[derive(Debug, Clone, Copy)]
pub struct HashedRow<'a> {
    /// The dedup key, a hash of the dedup fields.
    pub key: EventKey,
    /// The hash of the payload's JSON value.
    pub payload_hash: PayloadHash,
    /// A dedup field.
    pub topic: &'a str,
    /// A dedup field.
    pub event_id: &'a str,
    /// A dedup field.
    pub source: Option<&'a str>,
    /// The payload as JSON text; `None` if the database does not store it as it was sent (`jsonb`, which writes `1e2`
    /// as `100`): then it cannot be compared.
    pub payload: Option<&'a str>,
}

/// Returns whether a row has the hashes that were stored with it. If it has not, bytes of the row changed on the disk.
/// The columns that no hash is computed from may be damaged all the same: the times, the id of the request, and the
/// source unless it is a dedup field.
pub fn row_matches_its_hashes(keyer: &Keyer, row: &HashedRow<'_>) -> bool {
    keyer.key_of(row.topic, row.event_id, row.source) == row.key
        && row.payload.is_none_or(|payload| canonical::hash(payload, MAX_DEPTH) == Ok(row.payload_hash))
}

/// A row of events as it was read, with the hashes that were stored with it.
pub(crate) struct ReadRow {
    /// Marked as damaged if a column cannot be read.
    pub event: StoredEvent,
    pub key: EventKey,
    pub payload_hash: PayloadHash,
    /// Whether the database stores payloads as they were sent.
    pub payload_is_exact: bool,
}

impl ReadRow {
    /// Returns the event, marked as damaged if it does not match its hashes.
    pub fn check(self, keyer: &Keyer) -> StoredEvent {
        let Self { mut event, key, payload_hash, payload_is_exact } = self;
        let row = HashedRow {
            key,
            payload_hash,
            topic: &event.topic,
            event_id: &event.event_id,
            source: event.source.as_deref(),
            payload: payload_is_exact.then_some(&*event.payload),
        };
        event.damaged = event.damaged || !row_matches_its_hashes(keyer, &row);
        event
    }
}

/// Returns the events with this topic and id, of those that were found by their key, and the damaged ones: that key was
/// not computed from what they have now, so they may be the event that was looked for.
pub(crate) fn alike_or_damaged(mut events: Vec<StoredEvent>, topic: &str, event_id: &str) -> Vec<StoredEvent> {
    events.retain(|event| event.damaged || (event.topic == topic && event.event_id == event_id));
    events
}

/// Returns the value of a column. If it cannot be read, returns another value, and sets `damaged`.
pub(crate) fn value_or<T>(read: Result<T, sqlx::Error>, other: T, damaged: &mut bool) -> Result<T, sqlx::Error> {
    match read {
        Err(sqlx::Error::ColumnDecode { .. }) => {
            *damaged = true;
            Ok(other)
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_which_a_hashed_column_has_changed_does_not_match_its_hashes() {
        let keyer = Keyer::default();
        let payload = r#"{"b":1e2,"a":[true]}"#;
        let row = HashedRow {
            key: keyer.key_of("orders", "1", None),
            payload_hash: canonical::hash(payload, 64).unwrap(),
            topic: "orders",
            event_id: "1",
            source: Some("shop"),
            payload: Some(payload),
        };
        assert!(row_matches_its_hashes(&keyer, &row));
        let changed = [
            HashedRow { key: keyer.key_of("orders", "2", None), ..row },
            HashedRow { payload_hash: PayloadHash::from_u128(1), ..row },
            HashedRow { topic: "ordert", ..row },
            HashedRow { event_id: "0", ..row },
            HashedRow { payload: Some(r#"{"b":1e3,"a":[true]}"#), ..row },
            HashedRow { payload: Some(r#"{"b":1e2,"a":[true]"#), ..row },
        ];
        for row in changed {
            assert!(!row_matches_its_hashes(&keyer, &row), "{row:?}");
        }
        let with_source: Keyer = "event_id,source".parse().unwrap();
        let row = HashedRow { key: with_source.key_of("orders", "1", Some("shop")), ..row };
        assert!(row_matches_its_hashes(&with_source, &row));
        assert!(!row_matches_its_hashes(&with_source, &HashedRow { source: None, ..row }));
    }

    #[test]
    fn a_payload_that_the_database_normalises_is_not_compared() {
        let keyer = Keyer::default();
        let row = HashedRow {
            key: keyer.key_of("t", "1", None),
            payload_hash: PayloadHash::from_u128(1),
            topic: "t",
            event_id: "1",
            source: None,
            payload: None,
        };
        assert!(row_matches_its_hashes(&keyer, &row));
    }
}
