//! Reads a body that is refused once more, to its end: for its other faults, and for the events that have none.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ErrorKind, ParseError};
use super::faults::{Faults, Refused};
use super::quick::Reader;
use super::thorough::{self, Name};
use crate::{Event, Limits, Timestamp};

/// Reads a body whose first fault is known.
pub(super) fn refused<'a>(text: &'a str, limits: &Limits, now: Timestamp, first: ParseError) -> Box<Refused<'a>> {
    if first.index.is_none() {
        return Refused::whole(first);
    }
    let mut faults = Faults::default();
    faults.push(first.clone());
    let found = Found { events: Vec::new(), faults, reader: Reader::new(text.len()) };
    let walk = Walk { limits, now, first: first.index, found: RefCell::new(found) };
    let mut json = serde_json::Deserializer::from_str(text);
    let walked = json.deserialize_any(Body { walk: &walk }).and_then(|()| json.end());
    let Found { events, mut faults, .. } = walk.found.into_inner();
    if let Err(error) = walked
        && !faults.concern_the_whole()
    {
        faults.push(ParseError::whole(ErrorKind::Malformed, None, error.to_string()));
    }
    Refused::new(first, faults, events)
}

/// What the visitors share.
struct Walk<'a, 'l> {
    limits: &'l Limits,
    now: Timestamp,
    /// The event with the first fault.
    first: Option<usize>,
    found: RefCell<Found<'a>>,
}

struct Found<'a> {
    events: Vec<Event<'a>>,
    faults: Faults,
    reader: Reader,
}

impl<'a> Walk<'a, '_> {
    /// Notes a fault of the whole body, and ends the reading.
    fn end<E: Error>(&self, kind: ErrorKind, message: String) -> E {
        self.found.borrow_mut().faults.push(ParseError::whole(kind, Some("events"), message));
        E::custom("refused")
    }

    fn element(&self, index: usize, text: &'a str) {
        let Found { events, faults, reader } = &mut *self.found.borrow_mut();
        let event = match reader.event(text, self.limits, self.now) {
            Some(event) => Ok(event),
            None => thorough::event(text, self.limits, self.now, index),
        };
        match event {
            Ok(event) => events.push(event),
            Err(_) if Some(index) == self.first => {}
            Err(error) => faults.push(error),
        }
    }
}

/// The whole body.
struct Body<'w, 'a, 'l> {
    walk: &'w Walk<'a, 'l>,
}

impl<'de> Visitor<'de> for Body<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, an array of events, or {\"events\":[…]}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Elements { walk: self.walk }.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut events, mut fields) = (false, false);
        while let Some(name) = map.next_key::<Name>()? {
            if name != Name::Events {
                fields |= name.field().is_some();
                map.next_value::<&RawValue>()?;
            } else if events {
                return Err(self.walk.end(ErrorKind::Invalid, "is given twice".into()));
            } else {
                events = true;
                map.next_value_seed(Elements { walk: self.walk })?;
            }
        }
        if events && fields {
            let message = "cannot stand beside the fields of a single event";
            return Err(self.walk.end(ErrorKind::Invalid, message.into()));
        }
        Ok(())
    }
}

/// An array of events.
struct Elements<'w, 'a, 'l> {
    walk: &'w Walk<'a, 'l>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, 'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if index == self.walk.limits.events {
                let message = format!("must hold at most {index} events");
                return Err(self.walk.end(ErrorKind::TooManyEvents, message));
            }
            self.walk.element(index, element.get());
            index += 1;
        }
        Ok(())
    }
}
