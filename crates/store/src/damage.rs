//! Recognises rows that are damaged: each row has hashes of its own content, and no database compares them.

use sluice_event::{EventKey, Keyer, PayloadHash, canonical};

use crate::erased;
use crate::{StoreError, StoredEvent};

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
        if payload_hash == erased::PAYLOAD_HASH {
            // The source may have been part of the key.
            event.erased = !event.damaged && event.payload == erased::PAYLOAD && event.source.is_none();
            event.damaged = !event.erased;
            return event;
        }
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

/// What comparing the rows of events with their hashes has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCheck {
    /// Number of rows that were compared.
    pub rows: u64,
    /// Number of them whose payload is not stored as it was sent (`jsonb`): only their keys were compared.
    pub without_payload: u64,
    /// Number of rows that do not match their hashes.
    pub damaged: u64,
    /// Some of them, as many as a report shows.
    pub examples: Vec<DamagedRow>,
}

/// A row that does not match its hashes, with what could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    /// Its number in the order of arrival.
    pub seq: i64,
    /// Its topic, which may be what is damaged.
    pub topic: String,
    /// Its event id, which may be what is damaged.
    pub event_id: String,
}

impl RowCheck {
    /// The largest number of examples. A disk that fails damages thousands of rows.
    const MAX_EXAMPLES: usize = 10;

    /// Compares one more row.
    pub(crate) fn add(&mut self, row: ReadRow, keyer: &Keyer) {
        self.rows += 1;
        self.without_payload += u64::from(!row.payload_is_exact);
        let StoredEvent { seq, topic, event_id, damaged, .. } = row.check(keyer);
        if damaged {
            self.damaged += 1;
            if self.examples.len() < Self::MAX_EXAMPLES {
                self.examples.push(DamagedRow { seq, topic, event_id });
            }
        }
    }
}

/// Reads the dedup fields that a store has recorded.
pub(crate) fn recorded_keyer(dedup_fields: Option<String>) -> Result<Keyer, StoreError> {
    let failed = |why: String| StoreError::Failed(format!("the recorded dedup fields cannot be used: {why}"));
    let fields = dedup_fields.ok_or_else(|| failed("there are none".to_owned()))?;
    fields.parse().map_err(|error| failed(format!("{error}")))
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
    use sluice_event::{RequestId, Timestamp};

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
    fn every_damaged_row_is_counted_and_the_first_are_shown() {
        let keyer = Keyer::default();
        let row = |seq, event_id: &str, payload_is_exact| ReadRow {
            event: StoredEvent {
                seq,
                topic: "t".to_owned(),
                event_id: event_id.to_owned(),
                timestamp: Timestamp::UNIX_EPOCH,
                source: None,
                payload: "1".to_owned(),
                received_at: Timestamp::UNIX_EPOCH,
                request_id: RequestId::from_u128(0),
                damaged: false,
                erased: false,
            },
            key: keyer.key_of("t", "1", None),
            payload_hash: canonical::hash("1", 64).unwrap(),
            payload_is_exact,
        };
        let mut check = RowCheck::default();
        check.add(row(0, "1", true), &keyer);
        check.add(row(1, "1", false), &keyer);
        assert_eq!(check, RowCheck { rows: 2, without_payload: 1, ..RowCheck::default() });
        (2..22).for_each(|seq| check.add(row(seq, "2", true), &keyer));
        assert_eq!((check.rows, check.damaged, check.examples.len()), (22, 20, RowCheck::MAX_EXAMPLES));
        assert_eq!(check.examples[0], DamagedRow { seq: 2, topic: "t".to_owned(), event_id: "2".to_owned() });
    }

    #[test]
    fn an_erased_row_has_no_hash_and_is_damaged_only_if_it_has_content() {
        let check = |payload: &str, source: Option<&str>| {
            let event = StoredEvent {
                seq: 1,
                topic: "t".to_owned(),
                event_id: "1".to_owned(),
                timestamp: Timestamp::UNIX_EPOCH,
                source: source.map(Into::into),
                payload: payload.to_owned(),
                received_at: Timestamp::UNIX_EPOCH,
                request_id: RequestId::from_u128(0),
                damaged: false,
                erased: false,
            };
            let (key, payload_hash) = (EventKey::from_u128(1), erased::PAYLOAD_HASH);
            let event = ReadRow { event, key, payload_hash, payload_is_exact: true }.check(&Keyer::default());
            (event.erased, event.damaged)
        };
        assert_eq!(check("null", None), (true, false));
        assert_eq!(check("1", None), (false, true));
        assert_eq!(check("null", Some("s")), (false, true));
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
