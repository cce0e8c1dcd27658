//! Reads what is valid and usual in one pass over the text: each byte of a payload is looked at
//! once, to check it, to find where it ends, and to write its canonical form.

use super::fields::{Field, Fields};
use crate::canonical::Canonical;
use crate::{Event, Limits, Timestamp, scan};

/// Reads a body. `None` says nothing about the body, but that it is not for here.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Option<Vec<Event<'a>>> {
    let mut body = Body { text, json: text.as_bytes(), at: 0, limits, now, canonical: Canonical::default() };
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
            let name = self.string()?.as_bytes();
            self.space();
            self.expect(b':')?;
            self.space();
            member(self, &name[1..name.len() - 1])?;
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    fn member(&mut self, name: &[u8], fields: &mut Fields<'a>) -> Option<()> {
        let field = match name {
            b"topic" => Field::Topic,
            b"event_id" => Field::EventId,
            b"id" => Field::Id,
            b"timestamp" => Field::Timestamp,
            b"source" => Field::Source,
            b"payload" => {
                let began = self.at;
                let (hash, end) = self.canonical.hash(self.json, began, self.limits.payload_depth).ok()?;
                self.at = end;
                *fields.place(Field::Payload).ok()? = Some(self.text.get(began..end)?);
                fields.payload_hash = Some(hash);
                return Some(());
            }
            // Not ours; but it must be JSON.
            _ => {
                self.at = self.canonical.write(self.json, self.at, self.limits.payload_depth).ok()?;
                return Some(());
            }
        };
        *fields.place(field).ok()? = Some(self.text()?);
        Some(())
    }

    /// A string or null, as JSON.
    fn text(&mut self) -> Option<&'a str> {
        let began = self.at;
        if self.peek()? == b'n' {
            self.at = scan::literal(self.json, began)?;
        } else if self.string().is_none() {
            // Escapes, maybe.
            self.at = self.canonical.write(self.json, began, 0).ok()?;
        }
        self.text.get(began..self.at)
    }

    /// A string without escapes, quotes included.
    fn string(&mut self) -> Option<&'a str> {
        let began = self.at;
        self.expect(b'"')?;
        self.at = scan::plain(self.json, self.at);
        self.expect(b'"')?;
        self.text.get(began..self.at)
    }

    /// Steps over `,` (true) or the closing bracket (false), and over white space around it.
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

    fn space(&mut self) {
        self.at = scan::space(self.json, self.at);
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}
