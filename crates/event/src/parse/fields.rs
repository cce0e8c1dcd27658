//! The fields of one event: JSON text first, then validated.

use std::borrow::Cow;

use super::ErrorKind;
use crate::canonical::{self, PayloadError};
use crate::{Event, Limits, PayloadHash, Timestamp};

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

/// What is wrong with which field.
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

/// The text of one JSON value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) json: &'a str,
    /// Whether it may have escapes, if it is a string.
    pub(super) escapes: bool,
}

/// The fields that an event brings, not validated yet.
#[derive(Default)]
pub(super) struct Fields<'a> {
    given: [Option<Given<'a>>; 6],
    /// Of the payload, where somebody has computed it already.
    pub(super) payload_hash: Option<PayloadHash>,
}

impl<'a> Fields<'a> {
    /// Where to put a field's value; an error if there is one already.
    pub(super) fn place(&mut self, field: Field) -> Result<&mut Option<Given<'a>>, Fault> {
        let place = &mut self.given[field as usize];
        if place.is_some() { Err(Fault::invalid(field.name(), "is given twice")) } else { Ok(place) }
    }

    pub(super) fn any(&self) -> bool {
        self.given.iter().any(Option::is_some)
    }

    pub(super) fn validate(&self, limits: &Limits, now: Timestamp) -> Result<Event<'a>, Fault> {
        let topic = self.text(Field::Topic, limits.topic_bytes)?.unwrap_or(Cow::Borrowed("default"));
        let event_id = self.event_id(limits)?;
        let timestamp = match self.get(Field::Timestamp) {
            Some(value) => string(value)
                .and_then(|text| text.parse().map_err(|e: crate::timestamp::InvalidTimestamp| e.to_string()))
                .map_err(|message| Fault::invalid("timestamp", message))?,
            None => now,
        };
        let source = match self.get(Field::Source) {
            None | Some(Given { json: "null", .. }) => None,
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

    fn get(&self, field: Field) -> Option<Given<'a>> {
        self.given[field as usize]
    }

    /// A string that is not blank.
    fn text(&self, field: Field, most: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = bounded_text(value, most).map_err(|message| Fault::invalid(field.name(), message))?;
        let blank = !text.starts_with(|first: char| first.is_ascii_graphic()) && text.trim().is_empty();
        if blank { Err(Fault::invalid(field.name(), "must not be blank")) } else { Ok(Some(text)) }
    }
}

/// A string that can be stored.
fn bounded_text(value: Given<'_>, most: usize) -> Result<Cow<'_, str>, String> {
    let text = string(value)?;
    if text.len() > most {
        return Err(format!("is {} bytes long, and at most {most} are allowed", text.len()));
    }
    // JSON has NUL in escapes only.
    if matches!(&text, Cow::Owned(text) if text.contains('\0')) {
        return Err(PayloadError::Nul.to_string());
    }
    Ok(text)
}

fn string(Given { json, escapes }: Given<'_>) -> Result<Cow<'_, str>, String> {
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
