//! The dedup key: two events with the same key are the same event.

use std::fmt;
use std::str::FromStr;

use crate::{Event, EventKey};

/// A field that may be part of the dedup key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DedupField {
    /// [`Event::topic`]
    Topic,
    /// [`Event::event_id`]
    EventId,
    /// [`Event::source`]; an event without one differs from an event with an empty one.
    Source,
}

impl DedupField {
    /// The field's name in a request and in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Source => "source",
        }
    }
}

/// Why a list of dedup fields is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFields {
    /// A name that is not a dedup field.
    #[error("unknown dedup field `{0}`: use topic, event_id, source")]
    Unknown(String),
    /// `event_id` is missing. Without it all events of a topic would have the same key.
    #[error("the dedup fields must include event_id")]
    NoEventId,
}

/// Computes dedup keys. Two events with equal dedup fields have equal keys, and others have different keys.
/// BLAKE3 is collision resistant, because with a weaker hash a client could forge a collision and so have
/// another client's event dropped silently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyer {
    fields: Vec<DedupField>,
    bits: u32,
}

impl Default for Keyer {
    fn default() -> Self {
        Self { fields: vec![DedupField::Topic, DedupField::EventId], bits: 128 }
    }
}

impl Keyer {
    /// Creates a keyer over these fields, in any order.
    ///
    /// # Errors
    /// [`InvalidFields::NoEventId`] when `event_id` is not one of them.
    pub fn new(fields: impl IntoIterator<Item = DedupField>) -> Result<Self, InvalidFields> {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_unstable();
        fields.dedup();
        if !fields.contains(&DedupField::EventId) {
            return Err(InvalidFields::NoEventId);
        }
        Ok(Self { fields, bits: 128 })
    }

    /// Sets all but the first `bits` bits of each key to zero, so that a test can force collisions.
    #[must_use]
    pub fn truncated_for_tests(mut self, bits: u32) -> Self {
        self.bits = bits.min(128);
        self
    }

    /// Returns the fields, in the order in which they are hashed.
    pub fn fields(&self) -> &[DedupField] {
        &self.fields
    }

    /// Whether an event's topic and event id are enough to compute its key. Then an event can be looked up
    /// by its key; otherwise one topic and event id may have several keys, one for each source.
    pub fn uses_only_topic_and_event_id(&self) -> bool {
        !self.fields.contains(&DedupField::Source)
    }

    /// Returns the key of an event: the first 128 bits of BLAKE3 over the fields, each preceded by its
    /// length as 8 bytes, little endian (all ones when there is no source).
    pub fn key(&self, event: &Event<'_>) -> EventKey {
        self.key_of(&event.topic, &event.event_id, event.source.as_deref())
    }

    /// Returns the key of the event with these fields, as [`Keyer::key`] does.
    pub fn key_of(&self, topic: &str, event_id: &str, source: Option<&str>) -> EventKey {
        // Nearly all fields fit into an array on the stack, which saves an allocation.
        let size = 24 + topic.len() + event_id.len() + source.map_or(0, str::len);
        let (mut few, mut many) = ([0; 192], Vec::new());
        let input = few.get_mut(..size).unwrap_or_else(|| {
            many.resize(size, 0);
            &mut many
        });
        let unused = self.put_fields(input, topic, event_id, source).len();
        let key = u128::from_be_bytes(hash128(&input[..size - unused]));
        EventKey::from_u128(key & u128::MAX.checked_shl(128 - self.bits).unwrap_or(0))
    }

    /// Writes the input of the hash and returns the unused rest of `out`.
    fn put_fields<'o>(&self, out: &'o mut [u8], topic: &str, event_id: &str, source: Option<&str>) -> &'o mut [u8] {
        self.fields.iter().fold(out, |out, field| {
            let value = match field {
                DedupField::Topic => Some(topic),
                DedupField::EventId => Some(event_id),
                DedupField::Source => source,
            };
            let length = value.map_or(u64::MAX, |v| v.len() as u64);
            let value = value.unwrap_or_default().as_bytes();
            let (head, rest) = out.split_at_mut(8);
            head.copy_from_slice(&length.to_le_bytes());
            let (body, rest) = rest.split_at_mut(value.len());
            body.copy_from_slice(value);
            rest
        })
    }
}

/// Parses the form used in settings: `topic,event_id`.
impl FromStr for Keyer {
    type Err = InvalidFields;

    fn from_str(text: &str) -> Result<Self, InvalidFields> {
        let fields = text.split(',').map(|name| match name.trim() {
            "topic" => Ok(DedupField::Topic),
            "event_id" => Ok(DedupField::EventId),
            "source" => Ok(DedupField::Source),
            other => Err(InvalidFields::Unknown(other.to_owned())),
        });
        Self::new(fields.collect::<Result<Vec<_>, _>>()?)
    }
}

/// The form used in settings: `topic,event_id`, followed by `/N` when keys are truncated to N bits for a test.
impl fmt::Display for Keyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|field| field.name()).collect();
        f.write_str(&names.join(","))?;
        if self.bits < 128 {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

/// Returns the first 128 bits of BLAKE3.
pub fn hash128(input: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(input).as_bytes()[..16]);
    first
}

/// Returns the first 128 bits of BLAKE3 over parts, each preceded by its length (8 bytes, little endian),
/// so that moving a byte from one part to the next changes the hash.
pub fn hash128_of_parts(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_fields_changes_the_key() {
        let keyer = Keyer::default();
        assert_ne!(keyer.key_of("ab", "c", None), keyer.key_of("a", "bc", None));
    }

    #[test]
    fn only_the_dedup_fields_matter() {
        let keyer = Keyer::default();
        assert_eq!(keyer.key_of("t", "1", Some("a")), keyer.key_of("t", "1", None));
        let with_source: Keyer = "source,event_id".parse().unwrap();
        assert_ne!(with_source.key_of("t", "1", Some("")), with_source.key_of("t", "1", None));
        assert_eq!(with_source.key_of("t", "1", None), with_source.key_of("u", "1", None));
    }

    #[test]
    fn topic_and_event_id_are_enough_unless_the_source_is_a_dedup_field() {
        for (fields, enough) in [("topic,event_id", true), ("event_id", true), ("event_id,source", false)] {
            assert_eq!(fields.parse::<Keyer>().unwrap().uses_only_topic_and_event_id(), enough, "{fields}");
        }
    }

    #[test]
    fn the_order_of_the_fields_in_the_setting_does_not_matter() {
        assert_eq!("event_id,topic".parse::<Keyer>().unwrap(), Keyer::default());
        assert_eq!(Keyer::default().to_string(), "topic,event_id");
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused_by_name() {
        assert_eq!("topic".parse::<Keyer>(), Err(InvalidFields::NoEventId));
        assert_eq!("event_id,foo".parse::<Keyer>(), Err(InvalidFields::Unknown("foo".into())));
    }

    #[test]
    fn long_fields_are_hashed_as_short_ones_are() {
        let long = "x".repeat(500);
        assert_eq!(
            Keyer::default().key_of("t", &long, None),
            EventKey::from_bytes(hash128_of_parts(&[b"t", long.as_bytes()]))
        );
        for length in 160..180 {
            let id = &long[..length];
            assert_eq!(
                Keyer::default().key_of("t", id, Some("s")),
                EventKey::from_bytes(hash128_of_parts(&[b"t", id.as_bytes()]))
            );
        }
    }

    #[test]
    fn a_truncated_key_collides() {
        let keyer = Keyer::default().truncated_for_tests(0);
        assert_eq!(keyer.key_of("t", "1", None), keyer.key_of("t", "2", None));
    }

    #[test]
    fn the_key_of_an_event_never_changes() {
        // Stored keys depend on it: after a change all stored events would be accepted a second time.
        let key = Keyer::default().key_of("orders", "evt-1", None);
        let expected = EventKey::from_bytes(hash128(b"\x06\0\0\0\0\0\0\0orders\x05\0\0\0\0\0\0\0evt-1"));
        assert_eq!(key, expected);
        assert_eq!(key, EventKey::from_bytes(hash128_of_parts(&[b"orders", b"evt-1"])));
    }
}
