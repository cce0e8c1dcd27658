//! The fields of one event: first as JSON text, then validated.

use std::borrow::Cow;
use std::time::Duration;

use super::error::ErrorKind;
use crate::canonical::{self, PayloadError};
use crate::{Event, Limits, OutOfRange, PayloadHash, Timestamp};

/// A member that is part of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Topic,
    EventId,
    /// Another name of the event id.
    Id,
    Timestamp,
    Source,
    Payload,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::EventId => "event_id",
            Self::Id => "id",
            Self::Timestamp => "timestamp",
            Self::Source => "source",
            Self::Payload => "payload",
        }
    }
}

/// A fault of one field.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) field: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, field, message: message.into() }
    }
}

/// The JSON text of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldText<'a> {
    pub(super) json: &'a str,
    /// Whether the text may contain escapes, if it is a string.
    pub(super) escapes: bool,
}

/// The fields of an event, not validated yet.
#[derive(Default)]
pub(super) struct Fields<'a> {
    texts: [Option<FieldText<'a>>; 6],
    /// The payload's hash, if the reader of the body has computed it already.
    pub(super) payload_hash: Option<PayloadHash>,
}

impl<'a> Fields<'a> {
    /// Returns the slot for the text of a field.
    ///
    /// # Errors
    /// When the field was given before.
    pub(super) fn slot(&mut self, field: Field) -> Result<&mut Option<FieldText<'a>>, Fault> {
        let slot = &mut self.texts[field as usize];
        if slot.is_some() { Err(Fault::invalid(field.name(), "is given twice")) } else { Ok(slot) }
    }

    /// Whether any field was given.
    pub(super) fn any(&self) -> bool {
        self.texts.iter().any(Option::is_some)
    }

    /// Validates the fields and builds the event. `now` is the timestamp of an event without one.
    pub(super) fn validate(&self, limits: &Limits, now: Timestamp) -> Result<Event<'a>, Fault> {
        let topic = self.text(Field::Topic, limits.topic_bytes)?.unwrap_or(Cow::Borrowed("default"));
        let event_id = self.event_id(limits)?;
        let timestamp = match self.get(Field::Timestamp) {
            Some(value) => string(value)
                .and_then(|text| text.parse().map_err(|e: crate::timestamp::InvalidTimestamp| e.to_string()))
                .map_err(|message| Fault::invalid("timestamp", message))
                .and_then(|timestamp| in_range(timestamp, limits, now))?,
            None => now,
        };
        let source = match self.get(Field::Source) {
            None | Some(FieldText { json: "null", .. }) => None,
            Some(value) => {
                Some(bounded_text(value, limits.source_bytes).map_err(|message| Fault::invalid("source", message))?)
            }
        };
        let (payload, payload_hash) = self.payload(limits)?;
        Ok(Event { topic, event_id, timestamp, source, payload: Cow::Borrowed(payload), payload_hash })
    }

    fn event_id(&self, limits: &Limits) -> Result<Cow<'a, str>, Fault> {
        let event_id = self.text(Field::EventId, limits.event_id_bytes)?;
        let alias = self.text(Field::Id, limits.event_id_bytes)?;
        match (event_id, alias) {
            (None, None) => Err(Fault::invalid("event_id", "is missing")),
            (Some(event_id), Some(alias)) if alias != event_id => {
                Err(Fault::invalid("id", "differs from event_id, of which it is an alias"))
            }
            (Some(event_id), _) | (None, Some(event_id)) => Ok(event_id),
        }
    }

    fn payload(&self, limits: &Limits) -> Result<(&'a str, PayloadHash), Fault> {
        let Some(payload) = self.get(Field::Payload) else {
            return Err(Fault::invalid("payload", "is missing; null is a payload too"));
        };
        let payload = payload.json;
        if payload.len() > limits.payload_bytes {
            let message = format!("is {} bytes long, and at most {} are allowed", payload.len(), limits.payload_bytes);
            return Err(Fault { kind: ErrorKind::PayloadTooLarge, field: "payload", message });
        }
        if let Some(hash) = self.payload_hash {
            return Ok((payload, hash));
        }
        let hash = canonical::hash(payload, limits.payload_depth).map_err(|error| {
            let kind = match error {
                PayloadError::TooDeep(_) => ErrorKind::PayloadTooDeep,
                _ => ErrorKind::Invalid,
            };
            Fault { kind, field: "payload", message: error.to_string() }
        })?;
        Ok((payload, hash))
    }

    fn get(&self, field: Field) -> Option<FieldText<'a>> {
        self.texts[field as usize]
    }

    /// Returns the text of a string of up to `max` bytes that is not blank.
    fn text(&self, field: Field, max: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = bounded_text(value, max).map_err(|message| Fault::invalid(field.name(), message))?;
        if is_blank(&text) { Err(Fault::invalid(field.name(), "must not be blank")) } else { Ok(Some(text)) }
    }
}

fn is_blank(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_graphic()) && text.trim().is_empty()
}

/// Checks a text that was not read from one string of JSON, as a field with up to `max` bytes that is not blank.
///
/// # Errors
/// The reason.
pub(super) fn check_text(text: &str, max: usize) -> Result<(), String> {
    if is_blank(text) {
        return Err("must not be blank".into());
    }
    check_bounds(text, max)
}

/// Returns the timestamp, or that of the arrival if it is further from it than is allowed and the limits say so.
fn in_range(timestamp: Timestamp, limits: &Limits, now: Timestamp) -> Result<Timestamp, Fault> {
    let ahead = timestamp.as_micros().saturating_sub(now.as_micros());
    let (limit, than) = if ahead > 0 { (limits.max_future, "after") } else { (limits.max_age, "before") };
    let Some(limit) = limit else { return Ok(timestamp) };
    let distance = Duration::from_micros(ahead.unsigned_abs());
    match limits.out_of_range {
        _ if distance <= limit => Ok(timestamp),
        OutOfRange::Arrival => Ok(now),
        OutOfRange::Refuse => {
            let (distance, limit) = (distance.as_secs(), limit.as_secs());
            let message =
                format!("is {distance} seconds {than} the arrival of the request, and at most {limit} are allowed");
            Err(Fault { kind: ErrorKind::TimestampOutOfRange, field: "timestamp", message })
        }
    }
}

/// Decodes a string of up to `max` bytes that PostgreSQL can store.
fn bounded_text(value: FieldText<'_>, max: usize) -> Result<Cow<'_, str>, String> {
    let text = string(value)?;
    match &text {
        // JSON can contain NUL only as an escape.
        Cow::Borrowed(text) if text.len() <= max => {}
        text => check_bounds(text, max)?,
    }
    Ok(text)
}

fn check_bounds(text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("is {} bytes long, and at most {max} are allowed", text.len()));
    }
    if text.contains('\0') { Err(PayloadError::Nul.to_string()) } else { Ok(()) }
}

/// Decodes a JSON string.
pub(super) fn string(FieldText { json, escapes }: FieldText<'_>) -> Result<Cow<'_, str>, String> {
    let kind = match json.as_bytes().first() {
        Some(b'"') => {
            if !escapes {
                return Ok(Cow::Borrowed(&json[1..json.len() - 1]));
            }
            return serde_json::from_str(json).map(Cow::Owned).map_err(|_| PayloadError::LoneSurrogate.to_string());
        }
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    Err(format!("must be a string, not {kind}"))
}
