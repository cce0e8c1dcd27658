//! Reads a body with serde_json, several times where necessary, and describes its first fault.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ErrorKind, ParseError};
use super::fields::{Fault, Field, FieldText, Fields};
use crate::{Event, Limits, Timestamp};

/// Reads a body that is UTF-8. May return no events at all.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, ParseError> {
    let context = Context { limits, now, index: Cell::new(None), error: RefCell::new(None) };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_any(Body { context: &context }).and_then(|events| json.end().map(|()| events));
    parsed.map_err(|error| {
        context.error.take().unwrap_or_else(|| {
            let kind = if error.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
            let index = if error.is_data() { context.index.get() } else { None };
            ParseError { kind, index, line: None, field: None, message: error.to_string() }
        })
    })
}

/// Reads a text that is one event: an element of an array, or a line. The position in the message is that in the text.
pub(super) fn event<'a>(text: &'a str, limits: &Limits, now: Timestamp, index: usize) -> Result<Event<'a>, ParseError> {
    let context = Context { limits, now, index: Cell::new(Some(index)), error: RefCell::new(None) };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = One { context: &context }.deserialize(&mut json).and_then(|event| json.end().map(|()| event));
    parsed.map_err(|error| {
        context.error.take().unwrap_or_else(|| {
            let kind = if error.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
            let message = error.to_string();
            // A text has one line: only the column says something.
            let message = match message.rsplit_once(" at line 1 column ") {
                Some((message, column)) => format!("{message} at its byte {column}"),
                None => message,
            };
            ParseError { kind, index: Some(index), line: None, field: None, message }
        })
    })
}

/// The state that the visitors share. serde's errors are texts, so the structured error is stored here.
struct Context<'c> {
    limits: &'c Limits,
    now: Timestamp,
    index: Cell<Option<usize>>,
    error: RefCell<Option<ParseError>>,
}

impl Context<'_> {
    fn fail<E: serde::de::Error>(&self, Fault { kind, field, message }: Fault) -> E {
        *self.error.borrow_mut() =
            Some(ParseError { kind, index: self.index.get(), line: None, field: Some(field), message });
        E::custom("refused")
    }

    fn read<'a, A: MapAccess<'a>>(&self, fields: &mut Fields<'a>, name: Name, map: &mut A) -> Result<(), A::Error> {
        match name.field() {
            Some(field) => {
                let slot = fields.slot(field).map_err(|fault| self.fail(fault))?;
                let json = map.next_value::<&RawValue>()?.get();
                *slot = Some(FieldText { json, escapes: json.contains('\\') });
                Ok(())
            }
            None => map.next_value::<&RawValue>().map(drop),
        }
    }

    fn event<'a, E: serde::de::Error>(&self, fields: &Fields<'a>) -> Result<Event<'a>, E> {
        fields.validate(self.limits, self.now).map_err(|fault| self.fail(fault))
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
                self.context.read(&mut fields, name, &mut map)?;
                self.context.index.set(None);
            } else if events.is_some() {
                return Err(self.context.fail(Fault::invalid("events", "is given twice")));
            } else {
                events = Some(map.next_value_seed(Events { context: self.context })?);
                self.context.index.set(None);
            }
        }
        match events {
            None => {
                self.context.index.set(Some(0));
                Ok(vec![self.context.event(&fields)?])
            }
            Some(_) if fields.any() => {
                let message = "cannot stand beside the fields of a single event";
                Err(self.context.fail(Fault::invalid("events", message)))
            }
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
                let message = format!("must hold at most {} events", self.context.limits.events);
                return Err(self.context.fail(Fault { kind: ErrorKind::TooManyEvents, field: "events", message }));
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
            self.context.read(&mut fields, name, &mut map)?;
        }
        self.context.event(&fields)
    }
}

/// A member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Name {
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

impl Name {
    pub(super) fn field(self) -> Option<Field> {
        match self {
            Self::Topic => Some(Field::Topic),
            Self::EventId => Some(Field::EventId),
            Self::Id => Some(Field::Id),
            Self::Timestamp => Some(Field::Timestamp),
            Self::Source => Some(Field::Source),
            Self::Payload => Some(Field::Payload),
            Self::Events | Self::Other => None,
        }
    }
}
