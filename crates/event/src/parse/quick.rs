//! Reads what is valid and usual in one pass over the text: each byte of a payload is looked at
//! once, to check it, to find where it ends, and to write its canonical form.

use super::fields::{Field, Fields, Given};
use crate::canonical::Canonical;
use crate::{Event, Limits, Timestamp, scan};

/// Reads a body. `None` says nothing about the body, but that it is not for here.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Option<Vec<Event<'a>>> {
    let canonical = Canonical::for_text(text.len());
    let mut body = Body { text, json: text.as_bytes(), at: 0, limits, now, canonical };
    body.space();
    let events = match body.peek()? {
        b'[' => body.array()?,
        _ => body.object()?,
    };
    body.space();
    (body.at == text.len()).then_some(events)
}

struct Body<'a, 'l> {
    text: &'a str,
    json: &'a [u8],
    at: usize,
    limits: &'l Limits,
    now: Timestamp,
    canonical: Canonical,
}

impl<'a> Body<'a, '_> {
    /// An event, or what holds `events`.
    fn object(&mut self) -> Option<Vec<Event<'a>>> {
        let mut fields = Fields::default();
        let mut events = None;
        self.members(|body, name| {
            if name != b"events" {
                return body.member(name, &mut fields);
            }
            events.is_none().then_some(())?;
            events = Some(body.array()?);
            Some(())
        })?;
        match events {
            None => Some(vec![fields.validate(self.limits, self.now).ok()?]),
            Some(events) => (!fields.any()).then_some(events),
        }
    }

    fn array(&mut self) -> Option<Vec<Event<'a>>> {
        self.expect(b'[')?;
        self.space();
        let mut events = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(events);
        }
        loop {
            let began = self.at;
            let event = self.event()?;
            if events.len() == self.limits.events {
                return None;
            }
            if events.is_empty() {
                // Events of a request resemble each other.
                let expected = (self.json.len() - began) / (self.at - began);
                events.reserve_exact(expected.min(self.limits.events));
            }
            events.push(event);
            if !self.more(b']')? {
                return Some(events);
            }
        }
    }

    fn event(&mut self) -> Option<Event<'a>> {
        let mut fields = Fields::default();
        self.members(|body, name| body.member(name, &mut fields))?;
        fields.validate(self.limits, self.now).ok()
    }

    /// Calls `member` with each name of an object, to read the value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            member(self, name)?;
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    fn member(&mut self, name: &[u8], fields: &mut Fields<'a>) -> Option<()> {
        let (field, given) = match name {
            b"payload" => (Field::Payload, self.payload(fields)?),
            b"topic" => (Field::Topic, self.text()?),
            b"event_id" => (Field::EventId, self.text()?),
            b"id" => (Field::Id, self.text()?),
            b"timestamp" => (Field::Timestamp, self.text()?),
            b"source" => (Field::Source, self.text()?),
            _ => return self.other(),
        };
        *fields.place(field).ok()? = Some(given);
        Some(())
    }

    fn payload(&mut self, fields: &mut Fields<'a>) -> Option<Given<'a>> {
        let began = self.at;
        let (hash, end) = self.canonical.hash(self.json, began, self.limits.payload_depth).ok()?;
        self.at = end;
        fields.payload_hash = Some(hash);
        Some(Given { json: self.text.get(began..end)?, escapes: true })
    }

    /// Not ours; but it must be JSON.
    fn other(&mut self) -> Option<()> {
        self.at = self.canonical.write(self.json, self.at, self.limits.payload_depth).ok()?;
        Some(())
    }

    /// A string or null.
    fn text(&mut self) -> Option<Given<'a>> {
        let began = self.at;
        let mut escapes = false;
        if self.peek()? == b'n' {
            self.at = scan::literal(self.json, began)?;
        } else if self.string().is_none() {
            // Escapes, maybe.
            escapes = true;
            self.at = self.canonical.write(self.json, began, 0).ok()?;
        }
        Some(Given { json: self.text.get(began..self.at)?, escapes })
    }

    /// What is in a string without escapes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let began = self.at;
        self.at = scan::plain(self.json, began);
        let inner = self.json.get(began..self.at)?;
        self.expect(b'"')?;
        Some(inner)
    }

    /// Steps over `,` (true) or the closing bracket (false), and over white space around it.
    #[inline]
    fn more(&mut self, bracket: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            self.space();
            return Some(true);
        }
        (byte == bracket).then_some(false)
    }

    #[inline]
    fn space(&mut self) {
        self.at = scan::space(self.json, self.at);
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}
