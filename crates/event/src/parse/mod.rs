//! A request body → events, or one error that names the index and the field.
//!
//! The body is one event, an array of events, or `{"events": […]}`. All or nothing: the first
//! invalid event refuses the request. Members that are not fields of an event are ignored.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::canonical::{self, PayloadError};
use crate::{Event, Limits, Timestamp};

/// What kind of fault a request has; a server answers each with its own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body is not JSON, or not UTF-8.
    Malformed,
    /// An event does not meet the contract.
    Invalid,
    /// More events than [`Limits::events`].
    TooManyEvents,
    /// A payload larger than [`Limits::payload_bytes`].
    PayloadTooLarge,
    /// A payload nested deeper than [`Limits::payload_depth`].
    PayloadTooDeep,
}

/// Why a body is refused. Its text names the place: `events[3].timestamp: must be …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The kind of fault.
    pub kind: ErrorKind,
    /// Which event, from 0; `None` when the fault is in the body as a whole.
    pub index: Option<usize>,
    /// Which field of that event.
    pub field: Option<&'static str>,
    /// What is wrong with it, without its place.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, self.field) {
            (Some(index), Some(field)) => write!(f, "events[{index}].{field}: {}", self.message),
            (Some(index), None) => write!(f, "events[{index}]: {}", self.message),
            (None, Some(field)) => write!(f, "{field}: {}", self.message),
            (None, None) => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// Parses and validates a request body. `now` is the timestamp of events that bring none.
pub fn parse<'a>(body: &'a [u8], limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, ParseError> {
    let whole = |kind, message| ParseError { kind, index: None, field: None, message };
    let text = std::str::from_utf8(body)
        .map_err(|e| whole(ErrorKind::Malformed, format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Err(whole(
            ErrorKind::Malformed,
            "the body is empty; send an event, an array of events, or {\"events\":[…]}".into(),
        ));
    }
    let context = Context { limits, now, index: Cell::new(None), error: RefCell::new(None) };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_any(Body { context: &context }).and_then(|events| json.end().map(|()| events));
    let events = parsed.map_err(|error| {
        context.error.take().unwrap_or_else(|| {
            let kind = if error.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
            let index = if error.is_data() { context.index.get() } else { None };
            ParseError { kind, index, field: None, message: error.to_string() }
        })
    })?;
    if events.is_empty() {
        return Err(ParseError {
            kind: ErrorKind::Invalid,
            index: None,
            field: Some("events"),
            message: "must hold at least one event".into(),
        });
    }
    Ok(events)
}

/// What the visitors share. serde's errors are texts, so the structured error waits here.
struct Context<'c> {
    limits: &'c Limits,
    now: Timestamp,
    index: Cell<Option<usize>>,
    error: RefCell<Option<ParseError>>,
}

impl Context<'_> {
    fn fail<E: serde::de::Error>(&self, kind: ErrorKind, field: Option<&'static str>, message: impl Into<String>) -> E {
        *self.error.borrow_mut() = Some(ParseError { kind, index: self.index.get(), field, message: message.into() });
        E::custom("refused")
    }
}

/// The whole body: an array of events, or an object that is one event or holds `events`.
struct Body<'c> {
    context: &'c Context<'c>,
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Vec<Event<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, an array of events, or {\"events\":[…]}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Events { context: self.context }.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut events = None;
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            if name != Name::Events {
                self.context.index.set(Some(0));
                fields.read(name, &mut map, self.context)?;
                self.context.index.set(None);
            } else if events.is_some() {
                return Err(self.context.fail(ErrorKind::Invalid, Some("events"), "is given twice"));
            } else {
                events = Some(map.next_value_seed(Events { context: self.context })?);
                self.context.index.set(None);
            }
        }
        match events {
            None => {
                self.context.index.set(Some(0));
                Ok(vec![fields.validate(self.context)?])
            }
            Some(_) if fields.any() => Err(self.context.fail(
                ErrorKind::Invalid,
                Some("events"),
                "cannot stand beside the fields of a single event",
            )),
            Some(events) => Ok(events),
        }
    }
}

/// An array of events.
struct Events<'c> {
    context: &'c Context<'c>,
}

impl<'de> DeserializeSeed<'de> for Events<'_> {
    type Value = Vec<Event<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = Vec<Event<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        loop {
            self.context.index.set(Some(events.len()));
            let Some(event) = seq.next_element_seed(One { context: self.context })? else {
                self.context.index.set(None);
                return Ok(events);
            };
            if events.len() == self.context.limits.events {
                self.context.index.set(None);
                let most = format!("must hold at most {} events", self.context.limits.events);
                return Err(self.context.fail(ErrorKind::TooManyEvents, Some("events"), most));
            }
            events.push(event);
        }
    }
}

/// One event of an array.
struct One<'c> {
    context: &'c Context<'c>,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Event<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Event<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            fields.read(name, &mut map, self.context)?;
        }
        fields.validate(self.context)
    }
}

/// A member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Topic,
    EventId,
    Id,
    Timestamp,
    Source,
    Payload,
    Events,
    #[serde(other)]
    Other,
}

/// The fields of one event as JSON text, not validated yet.
#[derive(Default)]
struct Fields<'a> {
    topic: Option<&'a RawValue>,
    event_id: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    source: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read<A: MapAccess<'a>>(&mut self, name: Name, map: &mut A, context: &Context<'_>) -> Result<(), A::Error> {
        let (slot, field) = match name {
            Name::Topic => (&mut self.topic, "topic"),
            Name::EventId => (&mut self.event_id, "event_id"),
            Name::Id => (&mut self.id, "id"),
            Name::Timestamp => (&mut self.timestamp, "timestamp"),
            Name::Source => (&mut self.source, "source"),
            Name::Payload => (&mut self.payload, "payload"),
            Name::Events | Name::Other => return map.next_value::<&RawValue>().map(drop),
        };
        if slot.is_some() {
            return Err(context.fail(ErrorKind::Invalid, Some(field), "is given twice"));
        }
        *slot = Some(map.next_value()?);
        Ok(())
    }

    fn any(&self) -> bool {
        [self.topic, self.event_id, self.id, self.timestamp, self.source, self.payload].iter().any(Option::is_some)
    }

    fn validate<E: serde::de::Error>(self, context: &Context<'_>) -> Result<Event<'a>, E> {
        let limits = context.limits;
        let text = |value, field, most| {
            required_text(value, most).map_err(|message| context.fail::<E>(ErrorKind::Invalid, Some(field), message))
        };
        let topic = match self.topic {
            Some(value) => text(value, "topic", limits.topic_bytes)?,
            None => Cow::Borrowed("default"),
        };
        let event_id = match (self.event_id, self.id) {
            (None, None) => return Err(context.fail(ErrorKind::Invalid, Some("event_id"), "is missing")),
            (Some(value), None) => text(value, "event_id", limits.event_id_bytes)?,
            (None, Some(value)) => text(value, "id", limits.event_id_bytes)?,
            (Some(value), Some(alias)) => {
                let event_id = text(value, "event_id", limits.event_id_bytes)?;
                if text(alias, "id", limits.event_id_bytes)? != event_id {
                    return Err(context.fail(
                        ErrorKind::Invalid,
                        Some("id"),
                        "differs from event_id, of which it is an alias",
                    ));
                }
                event_id
            }
        };
        let timestamp = match self.timestamp {
            Some(value) => string(value)
                .and_then(|text| text.parse::<Timestamp>().map_err(|e| e.to_string()))
                .map_err(|message| context.fail::<E>(ErrorKind::Invalid, Some("timestamp"), message))?,
            None => context.now,
        };
        let source = match self.source {
            Some(value) if value.get() != "null" => Some(
                bounded_text(value, limits.source_bytes)
                    .map_err(|message| context.fail::<E>(ErrorKind::Invalid, Some("source"), message))?,
            ),
            _ => None,
        };
        let Some(payload) = self.payload else {
            return Err(context.fail(ErrorKind::Invalid, Some("payload"), "is missing; null is a payload too"));
        };
        let payload = payload.get();
        if payload.len() > limits.payload_bytes {
            let message = format!("is {} bytes long, and at most {} are allowed", payload.len(), limits.payload_bytes);
            return Err(context.fail(ErrorKind::PayloadTooLarge, Some("payload"), message));
        }
        let payload_hash = canonical::hash(payload, limits.payload_depth).map_err(|error| {
            let kind = match error {
                PayloadError::TooDeep(_) => ErrorKind::PayloadTooDeep,
                _ => ErrorKind::Invalid,
            };
            context.fail::<E>(kind, Some("payload"), error.to_string())
        })?;
        Ok(Event { topic, event_id, timestamp, source, payload: Cow::Borrowed(payload), payload_hash })
    }
}

/// A string that is not blank.
fn required_text(value: &RawValue, most: usize) -> Result<Cow<'_, str>, String> {
    let text = bounded_text(value, most)?;
    if text.trim().is_empty() { Err("must not be blank".into()) } else { Ok(text) }
}

/// A string that can be stored.
fn bounded_text(value: &RawValue, most: usize) -> Result<Cow<'_, str>, String> {
    let text = string(value)?;
    if text.len() > most {
        return Err(format!("is {} bytes long, and at most {most} are allowed", text.len()));
    }
    if text.contains('\0') {
        return Err(PayloadError::Nul.to_string());
    }
    Ok(text)
}

fn string(value: &RawValue) -> Result<Cow<'_, str>, String> {
    let json = value.get();
    let kind = match json.as_bytes().first() {
        Some(b'"') => {
            let inner = &json[1..json.len() - 1];
            if !inner.contains('\\') {
                return Ok(Cow::Borrowed(inner));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn parsed(body: &str) -> Result<Vec<Event<'_>>, String> {
        let limits = Limits { events: 3, payload_bytes: 40, topic_bytes: 8, ..Limits::default() };
        parse(body.as_bytes(), &limits, now()).map_err(|e| e.to_string())
    }

    #[test]
    fn one_event_an_array_and_a_batch_object_are_the_same() {
        let event = r#"{"event_id":"1","payload":{"a": 1.50}}"#;
        let one = parsed(event).unwrap();
        let array = format!("[{event}]");
        let batch = format!(r#"{{"events":[{event}],"note":"ignored"}}"#);
        assert_eq!(one, parsed(&array).unwrap());
        assert_eq!(one, parsed(&batch).unwrap());
        assert_eq!(one[0].topic, "default");
        assert_eq!(one[0].timestamp, now());
        assert_eq!(one[0].source, None);
        assert_eq!(one[0].payload, r#"{"a": 1.50}"#);
    }

    #[test]
    fn id_is_an_alias_of_event_id() {
        assert_eq!(parsed(r#"{"id":"x","payload":1}"#).unwrap()[0].event_id, "x");
        assert_eq!(parsed(r#"{"id":"x","event_id":"\u0078","payload":1}"#).unwrap()[0].event_id, "x");
        assert_eq!(
            parsed(r#"{"id":"y","event_id":"x","payload":1}"#).unwrap_err(),
            "events[0].id: differs from event_id, of which it is an alias"
        );
    }

    #[test]
    fn an_error_names_the_event_and_the_field() {
        for (body, error) in [
            (r#"[{"id":"1","payload":1},{"payload":1}]"#, "events[1].event_id: is missing"),
            (r#"{"events":[{"id":7,"payload":1}]}"#, "events[0].id: must be a string, not a number"),
            (r#"{"id":"1"}"#, "events[0].payload: is missing; null is a payload too"),
            (r#"{"id":" ","payload":1}"#, "events[0].id: must not be blank"),
            (r#"{"id":"1","topic":"","payload":1}"#, "events[0].topic: must not be blank"),
            (r#"{"id":"1","topic":null,"payload":1}"#, "events[0].topic: must be a string, not null"),
            (r#"{"id":"1","topic":"a","topic":"a","payload":1}"#, "events[0].topic: is given twice"),
            (
                r#"{"id":"1","topic":"123456789","payload":1}"#,
                "events[0].topic: is 9 bytes long, and at most 8 are allowed",
            ),
            (r#"{"id":"1","source":[],"payload":1}"#, "events[0].source: must be a string, not an array"),
            (r#"{"id":"a\u0000","payload":1}"#, "events[0].id: contains NUL (\\u0000), which cannot be stored"),
            (r#"{"id":"1","timestamp":1,"payload":1}"#, "events[0].timestamp: must be a string, not a number"),
            (
                r#"{"id":"1","timestamp":"x","payload":1}"#,
                "events[0].timestamp: must be an RFC 3339 time such as 2026-01-31T12:00:00Z",
            ),
            (r#"{"id":"1","payload":{"a":1,"a":1}}"#, "events[0].payload: has the key \"a\" twice in one object"),
            (r#"[]"#, "events: must hold at least one event"),
            (r#"{"events":[]}"#, "events: must hold at least one event"),
            (r#"{"events":[],"topic":"a"}"#, "events: cannot stand beside the fields of a single event"),
        ] {
            assert_eq!(parsed(body).unwrap_err(), error, "{body}");
        }
    }

    #[test]
    fn an_element_that_is_no_object_is_named_by_its_index() {
        let error = parse(br#"[{"id":"1","payload":1},3]"#, &Limits::default(), now()).unwrap_err();
        assert_eq!((error.kind, error.index), (ErrorKind::Invalid, Some(1)));
        assert!(error.message.contains("expected an event object"), "{error}");
    }

    #[test]
    fn each_limit_has_an_error_of_its_own() {
        let kind = |body: &str| {
            parse(
                body.as_bytes(),
                &Limits { events: 1, payload_bytes: 9, payload_depth: 2, ..Limits::default() },
                now(),
            )
            .unwrap_err()
            .kind
        };
        assert_eq!(kind(r#"[{"id":"1","payload":1},{"id":"2","payload":1}]"#), ErrorKind::TooManyEvents);
        assert_eq!(kind(r#"{"id":"1","payload":"12345678"}"#), ErrorKind::PayloadTooLarge);
        assert_eq!(kind(r#"{"id":"1","payload":[[[]]]}"#), ErrorKind::PayloadTooDeep);
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in [
            "",
            "  ",
            "{",
            "[{\"id\":\"1\",\"payload\":1}",
            "{\"id\":\"1\",\"payload\":1} x",
            "{'id':1}",
            "[1,]",
            "nul",
            "{\"id\":\"1\",\"payload\":\"\u{1}\"}",
            "{\"id\":\"1\",\"payload\":01}",
        ] {
            let error = parse(body.as_bytes(), &Limits::default(), now()).unwrap_err();
            assert!(error.kind == ErrorKind::Malformed || body == "[1,]", "{body}: {error}");
        }
        let error = parse(b"{\"id\":\"\xff\"}", &Limits::default(), now()).unwrap_err();
        assert_eq!(error.to_string(), "the body is not UTF-8 at byte 7");
    }

    #[test]
    fn numbers_stay_as_they_were_given() {
        let body = r#"{"id":"1","payload":123456789012345678901234567890.10}"#;
        assert_eq!(parsed(body).unwrap()[0].payload, "123456789012345678901234567890.10");
    }
}
